"""What makes the runs of one arm differ: a bar of shares for each arm, weights, data, teacher and the rest."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import hatched
from mechdistill.plots._colours import ARMS, GREYS, INK
from mechdistill.plots._seeds import error_bars
from mechdistill.plots._style import aside_of, page, styled
from mechdistill.plots._text import broken, shortened
from mechdistill.tables import OUTCOMES, metric, title

_LABEL = 18  # characters of an arm's name
_LOOKS = {  # of a factor: how it is called, its colour, and the pattern that tells it apart in grey
    "init": ("initial weights", ARMS[0], ""),
    "data": ("training data", ARMS[1], "/"),
    "teacher": ("teacher", ARMS[4], "x"),
    "rest": ("rest: interactions and noise", GREYS[2], "."),
}


def variance_figure(table: pd.DataFrame) -> go.Figure | None:
    """A `variance-shares` table as bars of shares that sum to 1: one panel a metric, a bar for each factor and arm.

    Lines are 95 % bootstrap intervals over the levels of the seeds. Each factor of an arm has a lane of its own, so
    that its interval begins at 0 like its bar. None where no runs differ.
    """
    table = table[table["share"].notna()]
    if table.empty:
        return None
    outcomes = list(dict.fromkeys(table["metric"]))
    arms = list(dict.fromkeys(map(str, table["arm"])))[::-1]
    factors = [factor for factor in _LOOKS if factor in set(table["factor"])]
    labels = shortened(arms, _LABEL)
    made = page(
        [_title(name) for name in outcomes],
        min(3, len(outcomes)),
        24 + 20 * len(factors) * len(arms),
        aside=aside_of(labels.values()),
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    for name, at in zip(outcomes, made.places, strict=True):
        for factor in factors:
            rows = table[(table["metric"] == name) & (table["factor"] == factor)]
            label, colour, shape = _LOOKS[factor]
            made.figure.add_bar(
                x=rows["share"],
                y=rows["arm"].astype(str),
                orientation="h",
                name=label,
                legendgroup=label,
                showlegend=at == made.places[0],
                marker={"color": colour, "pattern": hatched(shape, 7)},
                error_x=error_bars(rows["high"] - rows["share"], rows["share"] - rows["low"], INK, thickness=1.4),
                customdata=[_hover(row) for row in rows.to_dict("records")],
                hovertemplate="%{customdata}",
                **at,
            )
        made.figure.update_xaxes(range=[0, 1.02], nticks=5, title_text=broken("share of the variance", made.fits), **at)
    made.figure.update_yaxes(
        type="category", categoryorder="array", categoryarray=arms, tickvals=arms, ticktext=[labels[a] for a in arms]
    )
    made.figure.update_layout(barmode="group", bargap=0.25, legend={"traceorder": "normal"})
    reading = (
        "The shares of an arm sum to 1. Lines are 95 % intervals, levels of the seeds drawn anew: a rough guide where "
        "there are few, and none with fewer than five of a kind."
    )
    return styled(made, "What makes runs of one arm differ", reading, legend=[_LOOKS[factor][0] for factor in factors])


def _title(name: str) -> str:
    return OUTCOMES[name].title if name in OUTCOMES else title(metric(name))


def _hover(row: dict[Any, Any]) -> str:
    negative = "\nits estimate was negative and counts as 0" if row["clamped"] else ""
    interval = "no interval" if pd.isna(row["low"]) else f"from {row['low']:.3g} to {row['high']:.3g}"
    share = f"{row['share']:.3g}, {interval}"
    return f"{row['arm']}, {row['factor']}: {share}\nvariance {row['variance']:.4g}, {row['n']} runs{negative}"
