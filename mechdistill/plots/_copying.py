"""The study's main picture: how copying is learned, arm beside arm, and what is left to learn of it."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._colours import FAINT
from mechdistill.plots._seeds import band_in_words, curve
from mechdistill.plots._style import page, styled
from mechdistill.stats import students
from mechdistill.tables import LATER, metrics, no_matching_by, pick, title

_NO_MATCHING = "no matching"


def no_matching(
    figure: go.Figure, table: pd.DataFrame, place: dict[str, Any], *, until: float
) -> tuple[list[str], str]:
    """Draw what no matching reaches in the rows of a table, a level for each world; None where it has none.

    Gives the names for the legend, and for the reading line, where the table says it, who guesses.
    """
    guess = table[table["metric"] == metrics.NO_MATCHING.name]
    arms_at: dict[float, list[str]] = {}
    for arm, value in guess.groupby("arm", sort=False)["value"].first().items():
        arms_at.setdefault(round(float(value), 6), []).append(str(arm))
    names = [_NO_MATCHING + f", {', '.join(arms)}" * (len(arms_at) > 1) for arms in arms_at.values()]
    for level, name in zip(arms_at, names, strict=True):
        _dashed(figure, place, until=until, y=level, name=name, legend=True)
    by = no_matching_by(table) if names else ""
    return names, f" {_NO_MATCHING.capitalize()}: {by}." if by else ""


def _dashed(figure: go.Figure, place: dict[str, Any], *, until: float, y: float, name: str, legend: bool) -> None:
    """A level to hold curves against, named in the legend, where its name lies over no curve."""
    figure.add_trace(
        go.Scatter(
            x=[0.0, until],
            y=[y, y],
            mode="lines",
            line={"color": FAINT, "dash": "dash", "width": 1.5},
            name=name,
            legendgroup=name,
            showlegend=legend,
            hovertemplate=f"{name}: %{{y:.4g}}",
        ),
        **place,
    )


def copying_figure(table: pd.DataFrame) -> go.Figure | None:
    """The inline `metrics` of students, stacked, as two panels against tokens trained on: copy accuracy at occurrence
    >= 2 of triggers, with what no matching reaches, and copy excess there, nats, with the oracle's 0.

    One line an arm; with several seeds their mean, in a band from the lowest to the highest. None where nothing can be
    copied.
    """
    table = students(table)
    accuracy = pick(table, metrics.COPY_ACCURACY, LATER)
    excess = pick(table, metrics.COPY_EXCESS, LATER)
    if accuracy.empty:
        return None
    arms = looks(accuracy)
    made = page(["Accuracy", "What it still costs"], 2, 300, horizontal_spacing=0.11)
    figure, (left, right) = made.figure, made.places
    for data, place in ((accuracy, left), (excess, right)):
        for arm, look in arms.items():
            part = data[data["arm"] == arm]
            curve(figure, part, look, place, name=arm, group=arm, legend=place == left)
    until = float(accuracy["tokens"].max())
    levels, by = no_matching(figure, table[table["occurrence"] == LATER], left, until=until)
    _dashed(figure, right, until=until, y=0.0, name="the oracle", legend=False)
    figure.update_yaxes(title_text=title(metrics.COPY_ACCURACY, LATER), range=[0, 1.03], **left)
    figure.update_yaxes(title_text=title(metrics.COPY_EXCESS, LATER), rangemode="tozero", **right)
    figure.update_xaxes(title_text="tokens trained on", rangemode="tozero")
    return styled(
        made,
        "How copying is learned",
        "Left, higher is better: above the dashed line an arm does more than guess among what follows triggers. "
        "Right, lower is better: 0 is the oracle." + by + band_in_words(accuracy),
        legend=[*arms, *levels],
    )
