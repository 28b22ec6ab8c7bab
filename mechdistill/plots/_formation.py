"""When each part forms and how fast it rises: one line a part, arms beside each other, every seed a point."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._parts import ASIDE, along, in_words
from mechdistill.plots._style import page, styled

_SPREAD = 0.56  # of a part's line, that its arms share


def formation_figure(table: pd.DataFrame) -> go.Figure | None:
    """A `dynamics` table: on the left where each part passes its threshold, on the right its rise time, both in steps.

    Parts from the top in the order in which they form, those that form in no run left out; small points are seeds, a
    large mark their mean, open where some are lacking. Runs in which a part has not formed are in no mean, and counted
    when hovering. None where nothing forms.
    """
    formed = table[table["formed"]]
    if formed.empty:
        return None
    parts = list(formed.groupby("metric")["crossing"].mean().sort_values(kind="stable").index)
    arms = looks(table)
    panels = {"crossing": "when it forms", "rise": "how long its rise takes"}
    made = page(list(panels.values()), 2, 40 + 46 * len(parts), aside=ASIDE, horizontal_spacing=0.04)
    figure = made.figure
    for column, at in zip(panels, made.places, strict=True):
        first = column == "crossing"
        for number, (arm, look) in enumerate(arms.items()):
            offset = _SPREAD * ((number + 0.5) / len(arms) - 0.5)
            _arm(figure, table[table["arm"] == arm], column, parts, offset, arm, look, at, legend=first)
        along(figure, parts, at, named=first)
        figure.update_xaxes(title_text="steps", rangemode="tozero", nticks=6, **at)
    never = [in_words(name) for name in dict.fromkeys(table["metric"]) if name not in parts]
    return styled(
        made,
        "Which part forms first, and how fast",
        "Left: when a part passes its threshold. Right: how long it takes from 10 % to 90 % of its rise. Small points "
        "are seeds, large marks their means, open where it does not form in all."
        + f" In no run forms: {'; '.join(never)}."
        * bool(never),
        legend=list(arms),
    )


def _arm(
    figure: go.Figure,
    table: pd.DataFrame,
    column: str,
    parts: list[str],
    offset: float,
    arm: str,
    look: Look,
    at: dict[str, Any],
    *,
    legend: bool,
) -> None:
    rows = table[table["metric"].isin(parts)].dropna(subset=column)
    runs = table.groupby("metric")["run"].nunique()
    of_part = rows.groupby("metric", sort=False)[column]
    mean, n = of_part.mean(), of_part.size()
    marks = [(rows["metric"], rows[column], rows["run"], 5, 0.55), (mean.index, mean, mean.index, 12, 1.0)]
    for large, (names, values, runs_or_parts, size, opacity) in enumerate(marks):
        said = [
            f"{arm}, mean of the {n[name]} of {runs[name]} runs in which it forms" if large else str(whose)
            for name, whose in zip(names, runs_or_parts, strict=True)
        ]
        lacking = [bool(large) and n[name] < runs[name] for name in names]
        symbols = [f"{look.symbol}-open" if half else look.symbol for half in lacking]
        figure.add_trace(
            go.Scatter(
                x=list(values.astype(float)),
                y=[parts.index(name) + offset for name in names],
                mode="markers",
                marker={"color": look.colour, "symbol": symbols, "size": size, "opacity": opacity},
                name=arm,
                legendgroup=arm,
                showlegend=legend and bool(large),
                text=said,
                customdata=[in_words(name) for name in names],
                hovertemplate="%{text}\n%{customdata}: %{x:.0f} steps",
            ),
            **at,
        )
