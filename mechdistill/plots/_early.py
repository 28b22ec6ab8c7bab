"""What says early when copying will form: the error of each predictor beside that of the mean of the other seeds."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look
from mechdistill.plots._colours import INK, SHADES
from mechdistill.plots._parts import ASIDE, along, in_words
from mechdistill.plots._style import page, styled
from mechdistill.plots._twins import columns_for
from mechdistill.tables import arms_of, p_value

_LOOKS = tuple(
    Look(colour, "solid", symbol)
    for colour, symbol in zip(SHADES, ("circle", "square", "diamond", "triangle-up"), strict=True)
)


def early_warning_figure(table: pd.DataFrame) -> go.Figure | None:
    """An `early-warning` table, a panel an arm: for each predictor its error in steps at each share of training.

    The dashed line is the baseline's error. Marks are open where copying had formed in a seed by then. None where
    there is no prediction, as with fewer than four seeds.
    """
    known = table.dropna(subset="error")
    if known.empty:
        return None
    measured = set(known["arm"])
    arms = [arm for arm in arms_of(known) if arm in measured]
    parts = list(dict.fromkeys(known["metric"]))
    shares = sorted(known["share"].unique())
    columns = min(2, columns_for(len(arms)))
    made = page(arms, columns, 40 + 34 * len(parts), aside=ASIDE, horizontal_spacing=0.04)
    figure = made.figure
    names = {share: f"at {share:.0%} of training" for share in shares}
    for arm, at in zip(arms, made.places, strict=True):
        of_arm = known[known["arm"] == arm]
        for share, look in zip(shares, _LOOKS, strict=False):
            rows = of_arm[of_arm["share"] == share]
            _marks(figure, rows, parts, names[share], look, at, legend=at == made.places[0])
        figure.add_vline(x=float(of_arm["baseline_error"].max()), line={"color": INK, "dash": "dash", "width": 1}, **at)
        along(figure, parts, at, named=at["col"] == 1)
        figure.update_xaxes(title_text="error, steps (←\u00a0better)", rangemode="tozero", nticks=6, **at)
    return styled(
        made,
        "What says early when copying will form",
        "How far off the formation step of a seed is, when a line through the other seeds says it from one score early "
        "in training. Dashed: the mean of the others says it, without any score; left of it a score helps. Open: in "
        "some seeds copying had formed by then.",
        legend=list(names.values()),
    )


def _marks(
    figure: go.Figure, rows: pd.DataFrame, parts: list[str], name: str, look: Look, at: dict[str, Any], *, legend: bool
) -> None:
    figure.add_trace(
        go.Scatter(
            x=list(rows["error"]),
            y=[parts.index(part) for part in rows["metric"]],
            mode="markers",
            marker={
                "color": look.colour,
                "size": 10,
                "symbol": [f"{look.symbol}-open" if late else look.symbol for late in rows["already"]],
                "line": {"width": 1.6, "color": look.colour},
            },
            name=name,
            legendgroup=name,
            showlegend=legend,
            text=[_hover(row) for row in rows.to_dict("records")],
            hovertemplate="%{text}",
        ),
        **at,
    )


def _hover(row: dict[Any, Any]) -> str:
    return (
        f"{in_words(row['metric'])} at step {row['seen']}\noff by {row['error']:.1f} steps, the mean of the others by "
        f"{row['baseline_error']:.1f}\n{row['n']} seeds, copying had formed in {row['already']}\n"
        f"p {p_value(row['p'])}, {p_value(row['p_holm'])} for all predictors"
    )
