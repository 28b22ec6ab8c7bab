"""Curves over seeds: the mean as a line, the range from the lowest to the highest seed as a band."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look

_MARKS = 8  # on a line, to tell it from others in grey


def band_in_words(data: pd.DataFrame) -> str:
    """What the reading line says of bands; empty where no arm has two runs."""
    most = int(data.groupby("arm")["run"].nunique().max()) if len(data) else 0
    return f" Lines are means over seeds, bands go from the lowest to the highest of {most}." if most > 1 else ""


def worlds_in_words(rows: pd.DataFrame, columns: list[str], by: list[str]) -> str:
    """Whose references are drawn, where runs of several worlds stand side by side; empty where they share theirs.

    `columns` hold the references, `by` says what they are of.
    """
    shared = (rows.groupby(by, dropna=False)[columns].nunique() <= 1).all(axis=None)
    return "" if shared else f" Grey: the world of {rows['run'].iloc[0]}; others have other worlds."


def error_bars(
    above: npt.ArrayLike, below: npt.ArrayLike, colour: str, *, thickness: float = 1.2, width: float = 3
) -> dict[str, Any]:
    """Bars of two lengths from each mark; nan: none there.

    As arrays of numbers: of a list plotly reads nan as 0, and draws an end that looks like an interval of no width.
    """
    return {
        "type": "data",
        "symmetric": False,
        "array": np.asarray(above, dtype=np.float64),
        "arrayminus": np.asarray(below, dtype=np.float64),
        "thickness": thickness,
        "width": width,
        "color": colour,
    }


def curve(
    figure: go.Figure,
    data: pd.DataFrame,
    look: Look,
    place: dict[str, Any],
    *,
    name: str,
    group: str,
    legend: bool,
    of: str = "",
    along: str = "tokens",
    point: str = "%{x:.3s} tokens\n%{y:.4g}",
    marks: int = _MARKS,
) -> None:
    """One line of `data` (columns run, `along`, value) and its band, as far as all of its runs go.

    `group` is what a click in the legend hides; `of` is said of the line when hovering, else its name, and `point` of
    where on it. At most so many `marks`; 0: all.
    """
    wide = data.pivot(index=along, columns="run", values="value").sort_index().dropna()
    if wide.empty:
        return
    mean, low, high = wide.mean(axis=1), wide.min(axis=1), wide.max(axis=1)
    at, n = wide.index.astype(float), wide.shape[1]
    if n > 1:
        figure.add_trace(
            go.Scatter(
                x=[*at, *at[::-1]],
                y=[*high, *low[::-1]],
                fill="toself",  # in half the line's colour
                opacity=0.4,
                mode="lines",
                line={"color": look.colour, "width": 0},
                legendgroup=group,
                showlegend=False,
                hoverinfo="skip",
                name=name,
            ),
            **place,
        )
    spread = [f", mean of {n}, from {a:.4g} to {b:.4g}" if n > 1 else "" for a, b in zip(low, high, strict=True)]
    figure.add_trace(
        go.Scatter(
            x=at,
            y=mean,
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2.2},
            marker={"color": look.colour, "symbol": look.symbol, "size": 8, "maxdisplayed": marks},
            text=[(of or name) if n > 1 else str(wide.columns[0])] * len(wide),
            customdata=spread,
            name=name,
            legendgroup=group,
            showlegend=legend,
            hovertemplate=f"%{{text}}\n{point}%{{customdata}}",
        ),
        **place,
    )
