"""Curves over seeds: the mean as a line, the range from the lowest to the highest seed as a band."""

from typing import Any

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
) -> None:
    """One line of `data` (columns run, tokens, value) and its band, as far as all of its runs go.

    `group` is what a click in the legend hides; `of` is said of the line when hovering, else its name.
    """
    wide = data.pivot(index="tokens", columns="run", values="value").sort_index().dropna()
    if wide.empty:
        return
    mean, low, high = wide.mean(axis=1), wide.min(axis=1), wide.max(axis=1)
    tokens, n = wide.index.astype(float), wide.shape[1]
    if n > 1:
        figure.add_trace(
            go.Scatter(
                x=[*tokens, *tokens[::-1]],
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
            x=tokens,
            y=mean,
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2.2},
            marker={"color": look.colour, "symbol": look.symbol, "size": 8, "maxdisplayed": _MARKS},
            text=[(of or name) if n > 1 else str(wide.columns[0])] * len(wide),
            customdata=spread,
            name=name,
            legendgroup=group,
            showlegend=legend,
            hovertemplate="%{text}\n%{x:.3s} tokens\n%{y:.4g}%{customdata}",
        ),
        **place,
    )
