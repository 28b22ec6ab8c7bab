"""What a model takes from its prompt: by how far back it stands, where it stands, and against what the row says."""

from functools import partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import FAINT
from mechdistill.plots._seeds import error_bars, worlds_in_words
from mechdistill.plots._style import page, styled
from mechdistill.tables import last_step, metrics, title

_CEILING, _NO_MATCHING, _NO_CONTEXT = "the oracle", "no matching", "no context"
_COLUMNS = {_CEILING: "ceiling", _NO_MATCHING: "no_matching", _NO_CONTEXT: "no_context"}
_DASHES = {_CEILING: "solid", _NO_MATCHING: "dash", _NO_CONTEXT: "dot"}
_COPY, _NEEDLE, _COUNTERFACTUAL = "copy", "needle", "counterfactual"


def in_context_figure(table: pd.DataFrame) -> go.Figure:
    """An `in-context` table at each run's last checkpoint, as four panels: accuracy of `copy` by distance, with the
    needle apart, and by where the pair stands; of `counterfactual` by distance, with how often the row's likeliest
    successor is given instead (open marks); and what context is worth, the oracle's share.

    One line an arm, with several seeds their mean and the range from the lowest to the highest; a single seed has the
    standard error over prompts. Lines in grey: the oracle, who matches nothing, and the table without context.
    """
    last = last_step(table)
    arms = looks(last)
    titles = ["Copy, by distance", "Copy, by where the pair stands", "Counterfactual, by distance", "Whole sequences"]
    made = page(titles, 2, 270, horizontal_spacing=0.11)
    figure, (by_distance, by_place, against, whole) = made.figure, made.places
    accuracy = last[last["metric"] == metrics.IN_CONTEXT_ACCURACY.name]
    copied, needle, contrary = (accuracy[accuracy["task"] == task] for task in (_COPY, _NEEDLE, _COUNTERFACTUAL))
    instead = last[last["metric"] == metrics.ROW_WINS.name]
    levels = _levels(figure, copied, "distance", by_distance, legend=True)
    _levels(figure, copied, "quarter", by_place)
    _levels(figure, contrary, "distance", against)
    for arm, look in arms.items():
        line = partial(_line, figure, arm=arm, look=look)
        line(copied, "distance", by_distance, legend=True)
        line(needle, "distance", by_distance, said=f"{arm}, needle")
        line(copied, "quarter", by_place)
        line(contrary, "distance", against)
        line(instead, "distance", against, said=f"{arm}, the row wins", hollow=True)
    _worth(figure, last[last["metric"] == metrics.ICL_AGAINST_ORACLE.name], arms, whole)
    for place, rows in ((by_distance, pd.concat([copied, needle])), (against, contrary)):
        shown = [int(distance) for distance in sorted(rows["distance"].dropna().unique())]
        names = [f"{distance}\nneedle" if distance in set(needle["distance"]) else str(distance) for distance in shown]
        figure.update_xaxes(type="log", tickvals=shown, ticktext=names, **place)
        figure.update_xaxes(title_text="distance, tokens", **place)
    quarters = [int(quarter) for quarter in sorted(copied["quarter"].dropna().unique())]
    figure.update_xaxes(tickvals=quarters, ticktext=[str(quarter + 1) for quarter in quarters], **by_place)
    figure.update_xaxes(title_text="quarter of the sequence", **by_place)
    for place in (by_distance, by_place, against):
        figure.update_yaxes(title_text=title(metrics.IN_CONTEXT_ACCURACY), range=[-0.03, 1.05], **place)
    several = bool((last.groupby("arm")["run"].nunique() > 1).any())
    spread = "the range over seeds, lines their mean" if several else "the standard error over prompts"
    return styled(
        made,
        "What the model takes from its prompt",
        "Higher is better. A prompt shows a pair once, with a decoy where triggers are fixed, and ends with the pair's "
        "first token. Far pairs can only stand early, the needle first of all: read the first panel beside the second. "
        "Open marks: how often the row's likeliest successor is given instead. Last panel: 1 gains from context what "
        f"the oracle gains. Bars are {spread}."
        + worlds_in_words(accuracy, list(_COLUMNS.values()), ["task", "distance", "quarter"]),
        legend=[*arms, *levels],
    )


def _levels(
    figure: go.Figure, rows: pd.DataFrame, by: str, place: dict[str, Any], *, legend: bool = False
) -> list[str]:
    """What values are held against, in grey: those of the first run; gives the names of those that there are."""
    names: list[str] = []
    first = rows[rows["run"] == rows["run"].iloc[0]] if len(rows) else rows
    for name, column in _COLUMNS.items():
        line = first[first[column].notna() & first[by].notna()].sort_values(by)
        if line.empty:
            continue
        names.append(name)
        figure.add_trace(
            go.Scatter(
                x=line[by].astype(float),
                y=line[column],
                mode="lines",
                line={"color": FAINT, "dash": _DASHES[name], "width": 1.5},
                name=name,
                legendgroup=name,
                legendrank=1001,
                showlegend=legend,
                hovertemplate=f"{name}: %{{y:.3f}}",
            ),
            **place,
        )
    return names


def _line(
    figure: go.Figure,
    rows: pd.DataFrame,
    by: str,
    place: dict[str, Any],
    *,
    arm: str,
    look: Look,
    said: str = "",
    legend: bool = False,
    hollow: bool = False,
) -> None:
    """An arm's mean over seeds against a column, with their range, or one seed's standard error."""
    groups = rows[(rows["arm"] == arm) & rows[by].notna()].groupby(by)
    mean, n = groups["value"].mean(), groups["value"].size()
    if mean.empty:
        return
    error = groups["error"].first().fillna(0.0)
    above = (groups["value"].max() - mean).where(n > 1, error)
    below = (mean - groups["value"].min()).where(n > 1, error)
    figure.add_trace(
        go.Scatter(
            x=mean.index.astype(float),
            y=mean,
            error_y=error_bars(above, below, look.colour),
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 1.2 if hollow else 2.2},
            marker={"color": look.colour, "symbol": look.symbol + "-open" * hollow, "size": 8},
            name=arm,
            legendgroup=arm,
            showlegend=legend,
            text=[said or arm] * len(mean),
            customdata=[f"mean of {count}" if count > 1 else "one seed" for count in n],
            hovertemplate=f"%{{text}}, %{{customdata}}\n{by} %{{x}}\n%{{y:.3f}}",
        ),
        **place,
    )


def _worth(figure: go.Figure, worth: pd.DataFrame, arms: dict[str, Look], place: dict[str, Any]) -> None:
    """A dot a seed and a mean an arm, between what a table and the oracle come to."""
    for at, (arm, look) in enumerate(arms.items()):
        seeds = worth[worth["arm"] == arm]
        if seeds.empty:
            continue
        for x, y, size, text in (
            ([at] * len(seeds), list(seeds["value"]), 6, list(seeds["run"])),
            ([at], [seeds["value"].mean()], 11, [f"{arm}, mean of {len(seeds)}"]),
        ):
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    mode="markers",
                    marker={
                        "color": look.colour,
                        "symbol": look.symbol,
                        "size": size,
                        "opacity": 1 if size > 6 else 0.55,
                    },
                    text=text,
                    name=arm,
                    legendgroup=arm,
                    showlegend=False,
                    hovertemplate="%{text}\n%{y:.3f}",
                ),
                **place,
            )
        figure.add_trace(
            go.Scatter(
                x=[at - 0.3, at + 0.3],
                y=[seeds["no_context"].mean()] * 2,
                mode="lines",
                line={"color": FAINT, "dash": _DASHES[_NO_CONTEXT], "width": 1.5},
                name=_NO_CONTEXT,
                legendgroup=_NO_CONTEXT,
                showlegend=False,
                hovertemplate=f"{_NO_CONTEXT}: %{{y:.3f}}",
            ),
            **place,
        )
    figure.add_hline(y=1, line={"color": FAINT, "width": 1.5}, **place)
    figure.update_xaxes(
        tickvals=list(range(len(arms))), ticktext=list(arms), range=[-0.6, len(arms) - 0.4], showgrid=False, **place
    )
    figure.update_yaxes(title_text=metrics.ICL_AGAINST_ORACLE.label, rangemode="tozero", **place)
