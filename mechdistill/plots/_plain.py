"""Any measure as a figure, where it has none of its own: a panel for each metric, a line or bars for each arm."""

from collections.abc import Hashable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import INK
from mechdistill.plots._seeds import band_in_words, curve
from mechdistill.plots._style import page, styled
from mechdistill.tables import METRIC_COLUMNS, Measure, metric

_BETTER = ("higher", "lower")


def plain_figure(measure: Measure, table: pd.DataFrame) -> go.Figure:
    """A measure's table as bars by place, or, over several checkpoints, as curves against tokens.

    Each panel is a metric with its unit; a place is what the measure's own text and integer columns say. Curves are
    means over places. Seeds are a mean with the range from the lowest to the highest.
    """
    keys = [c.name for c in measure.columns if c not in METRIC_COLUMNS and c.dtype != "float64"]
    keys = [key for key in keys if table[key].notna().any()]
    names = list(dict.fromkeys(table["metric"]))
    arms = looks(table)
    moving = bool((table.groupby("run")["step"].nunique() > 1).any())
    made = page([metric(name).label for name in names], min(2, len(names)), 290, horizontal_spacing=0.11)
    figure = made.figure
    for name, at in zip(names, made.places, strict=True):
        for arm, look in arms.items():
            part = table[(table["metric"] == name) & (table["arm"] == arm)]
            first = at == made.places[0]
            if moving:
                means = part.groupby(["run", "tokens"], as_index=False)["value"].mean()
                curve(figure, means, look, at, name=arm, group=arm, legend=first)
            elif len(part):
                _bars(figure, part, keys, arm, look, at, legend=first)
        known = metric(name)
        figure.update_yaxes(title_text=known.unit or "value", rangemode="tozero", **at)
        figure.update_xaxes(title_text="tokens trained on" if moving else "", **at)
    several = bool((table.groupby("arm")["run"].nunique() > 1).any())
    if moving:
        reading = "Means over places against tokens trained on." + band_in_words(table)
    else:
        reading = "By place." + " Bars are means over seeds, lines go from the lowest to the highest." * several
    better = {word: [metric(name).label for name in names if metric(name).better == word] for word in _BETTER}
    reading += "".join(f" {word.capitalize()} is better: {', '.join(of)}." for word, of in better.items() if of)
    return styled(made, measure.question, reading, legend=list(arms))


def _bars(
    figure: go.Figure, part: pd.DataFrame, keys: list[str], arm: str, look: Look, at: dict[str, Any], *, legend: bool
) -> None:
    """An arm's mean over runs at each place."""
    places = [_place(row, keys) for row in part.to_dict("records")]
    values = part.assign(place=places).groupby("place", sort=False)["value"]
    mean = values.mean()
    runs = list(dict.fromkeys(part["run"]))
    spread = {"type": "data", "array": values.max() - mean, "arrayminus": mean - values.min()}
    figure.add_trace(
        go.Bar(
            x=list(mean.index),
            y=mean,
            marker={"color": look.colour, "pattern": look.pattern},
            error_y={**spread, "color": INK, "thickness": 1.2, "width": 3, "visible": len(runs) > 1},
            name=arm,
            legendgroup=arm,
            showlegend=legend,
            text=[runs[0] if len(runs) == 1 else f"{arm}, mean of {len(runs)}"] * len(mean),
            textposition="none",
            hovertemplate="%{text}\n%{x}\n%{y:.4g}",
        ),
        **at,
    )


def _place(row: dict[Hashable, Any], keys: list[str]) -> str:
    given = [f"{key} {row[key]}" for key in keys if not pd.isna(row[key])]
    return ", ".join(given) or "all"
