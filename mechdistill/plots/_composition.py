"""Which head reads what which earlier head wrote: Q-, K- and V-composition of every pair, against random matrices."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits.scores import COMPOSITIONS
from mechdistill.plots._cells import Scale, cells, heatmap, numbers
from mechdistill.plots._colours import ON_PALE, ON_STRONG, SIGNED
from mechdistill.plots._style import page, styled
from mechdistill.tables import last_step

_PANEL = 200


def composition_figure(table: pd.DataFrame) -> go.Figure | None:
    """An `induction-scores` table as heat maps, later head × earlier head, at each run's last checkpoint.

    A row of panels for each run, a panel for each kind. Numbers are the scores, in [0, 1]; colours how far they lie
    beyond random matrices. None where no pair has a score, as with a single layer.
    """
    names = [score.name for score in COMPOSITIONS]
    pairs = last_step(table[table["metric"].isin(names)])
    if pairs.empty:
        return None
    shown = [score for score in COMPOSITIONS if (pairs["metric"] == score.name).any()]
    runs = list(dict.fromkeys(pairs["run"]))
    at = pairs.groupby("run")["step"].first()
    titles = [f"{run} @{at[run]}: {score.label}" for run in runs for score in shown]
    made = page(titles, len(shown), _PANEL, horizontal_spacing=0.11)
    beyond = pairs["value"] - pairs["chance"]
    far = float(beyond.abs().max()) or 1.0
    scale = Scale(-far, far, SIGNED)
    for (run, score), place in zip(((run, score) for run in runs for score in shown), made.places, strict=True):
        part = pairs[(pairs["run"] == run) & (pairs["metric"] == score.name)]
        if part.empty:  # rotary positions leave two of them undefined
            made.figure.update_xaxes(visible=False, **place).update_yaxes(visible=False, **place)
            continue
        drawn = cells(part)
        drawn = drawn._replace(x=[name.removeprefix("from ") for name in drawn.x])
        chance = float(part["chance"].iloc[0])
        made.figure.add_trace(
            heatmap(
                drawn._replace(z=drawn.z - chance),
                scale,
                "beyond\nrandom",
                _PANEL,
                legend=place == made.places[0],
            ),
            **place,
        )
        in_cells = numbers(drawn, scale, len(shown), visible=True)
        strong = scale.strength(drawn.z - chance) >= 0.5
        in_cells.update(textfont_color=list(np.where(strong[np.isfinite(drawn.z)], ON_STRONG, ON_PALE)))
        made.figure.add_trace(in_cells, **place)
    bare = {"showgrid": False, "type": "category", "showline": False, "ticks": ""}
    made.figure.update_xaxes(bare).update_yaxes({**bare, "autorange": "reversed"})
    level = ", ".join(f"{chance:.3f}" for chance in sorted(set(pairs["chance"])))
    return styled(
        made,
        "Which heads read what earlier heads wrote",
        "Rows are later heads, columns earlier ones. Numbers are composition scores, colours how far they are from "
        f"random matrices' {level}. Well above, a pair composes: induction heads read previous-token heads in keys.",
    )
