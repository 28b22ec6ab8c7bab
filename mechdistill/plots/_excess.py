"""What copying costs beyond the oracle, by how often its trigger has come, arms beside each other."""

from math import isnan

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._colours import AXIS
from mechdistill.plots._style import page, styled
from mechdistill.stats import MIN_PAIRS, paired, students
from mechdistill.tables import FIRST, LATER, SECOND, THIRD_ON, last_step, metrics, title

_ROOM = 0.7  # of an occurrence's place on the axis


def copy_excess_figure(table: pd.DataFrame) -> go.Figure | None:
    """Copy excess at the last step of every student, nats, by occurrence of the trigger, as a dot a seed.

    `table` is a `row-curves` table (occurrences 1, 2 and >= 3) or the inline `metrics` (1 and >= 2). Beside each arm's
    dots stand their mean and, from three seeds on, its 95 % interval (t). None where nothing can be copied.
    """
    rows = students(table)
    rows = last_step(rows[(rows["metric"] == metrics.COPY_EXCESS.name) & rows["occurrence"].notna()])
    if rows.empty:
        return None
    words = {FIRST: "1: target unknown", SECOND: "2", LATER: "2 and later", THIRD_ON: "3 and later"}
    shown = [occurrence for occurrence in words if occurrence in set(rows["occurrence"])]
    arms = looks(rows)
    slot = _ROOM / len(arms)
    made = page([""], 1, 300)
    figure, (place,) = made.figure, made.places
    for i, (arm, look) in enumerate(arms.items()):
        for at, occurrence in enumerate(shown):
            seeds = rows[(rows["arm"] == arm) & (rows["occurrence"] == occurrence)]
            if seeds.empty:
                continue
            centre = at + (i + 0.5) * slot - _ROOM / 2
            several = len(seeds) > 1
            figure.add_trace(
                go.Scatter(
                    x=[centre - slot / 6] * len(seeds),
                    y=seeds["value"],
                    visible=several,
                    mode="markers",
                    marker={"color": look.colour, "symbol": look.symbol, "size": 7, "opacity": 0.55},
                    text=[f"{run} @{step}" for run, step in zip(seeds["run"], seeds["step"], strict=True)],
                    hovertemplate="%{text}\n%{y:.4f} nats",
                    legendgroup=arm,
                    showlegend=False,
                ),
                **place,
            )
            sure = paired(seeds["value"].to_numpy())
            mean, far = sure.difference, sure.high - sure.difference  # nan below three seeds
            figure.add_trace(
                go.Scatter(
                    x=[centre + slot / 6 * several],
                    y=[mean],
                    error_y={
                        "type": "data",
                        "array": [0.0 if isnan(far) else far],
                        "thickness": 2,
                        "width": 6,
                        "color": look.colour,
                    },
                    mode="markers",
                    marker={"color": look.colour, "symbol": look.symbol, "size": 11},
                    name=arm,
                    text=[f"{arm}, mean of {len(seeds)}" + f", ± {far:.4f}" * (not isnan(far))],
                    hovertemplate="%{text}\n%{y:.4f} nats",
                    legendgroup=arm,
                    showlegend=at == 0,
                ),
                **place,
            )
    figure.add_hline(y=0, line={"color": AXIS, "dash": "dash", "width": 1.5}, **place)
    figure.update_xaxes(
        title_text="occurrence of the trigger in its sequence",
        tickvals=list(range(len(shown))),
        ticktext=[words[occurrence] for occurrence in shown],
        range=[-0.5, len(shown) - 0.5],
        showgrid=False,
        **place,
    )
    figure.update_yaxes(title_text=title(metrics.COPY_EXCESS), **place)
    several = int(rows.groupby("arm")["run"].nunique().max())
    marks = " Small marks are seeds, large ones their means" * (several > 1)
    marks += ", with 95 % t intervals." if several >= MIN_PAIRS else "." * (several > 1)
    return styled(
        made,
        "What copying costs beyond the oracle, by occurrence of the trigger",
        "Lower is better, 0 is the oracle. At the first occurrence nothing can be copied; from the second on the "
        "circuit can." + marks,
        legend=list(arms),
    )
