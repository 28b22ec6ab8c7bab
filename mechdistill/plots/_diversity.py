"""How different what a model generates is, always beside how much of it is valid."""

from collections.abc import Iterable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import FAINT
from mechdistill.plots._seeds import error_bars, worlds_in_words
from mechdistill.plots._style import page, styled
from mechdistill.tables import TEMPERATURE, Metric, last_step, metrics, title

_WORLD = "the world itself"
_AS_IT_IS = 1.0  # the temperature at which a model is compared with the world


def diversity_figure(table: pd.DataFrame) -> go.Figure:
    """A `diversity` table at each run's last checkpoint, as four panels: valid distinct-2 against validity along the
    temperatures, the coldest first; entropy rate and Vendi score by temperature; and how many different valid
    continuations come of k draws, at temperature 1.

    One line an arm, a mark at each temperature or k; several seeds are a mean with the range from the lowest to the
    highest. The world's own sequences are grey.
    """
    last = last_step(table)
    arms = looks(last)
    titles = ["Valid distinct-2 beside validity", "Entropy rate", "Effective number of sequences", "Continuations"]
    made = page(titles, 2, 270, horizontal_spacing=0.11)
    figure, (frontier, rate, vendi, unique) = made.figure, made.places
    valid, pairs = _of(last, metrics.VALIDITY), _of(last, metrics.VALID_DISTINCT, n=2)
    entropy, effective = _of(last, metrics.ENTROPY_RATE), _of(last, metrics.VENDI)
    correct = _of(last, metrics.UNIQUE_CORRECT)
    correct = correct[correct[TEMPERATURE.name] == _AS_IT_IS]
    _world(figure, list(valid["reference"][:1]), list(pairs["reference"][:1]), frontier, mark=True, legend=True)
    for rows, by, place in (
        (entropy, TEMPERATURE.name, rate),
        (effective, TEMPERATURE.name, vendi),
        (correct, "k", unique),
    ):
        means = rows.groupby(by)["reference"].first()
        _world(figure, list(means.index.astype(float)), list(means), place)
    for arm, look in arms.items():
        mine = [rows[rows["arm"] == arm] for rows in (valid, pairs, entropy, effective, correct)]
        _frontier(figure, mine[0], mine[1], arm, look, frontier)
        for rows, by, place in (
            (mine[2], TEMPERATURE.name, rate),
            (mine[3], TEMPERATURE.name, vendi),
            (mine[4], "k", unique),
        ):
            _line(figure, rows, by, arm, look, place)
    figure.update_xaxes(title_text=title(metrics.VALIDITY), **frontier)
    figure.update_yaxes(title_text=f"{metrics.VALID_DISTINCT.label}, n = 2", **frontier)
    for place, metric in ((rate, metrics.ENTROPY_RATE), (vendi, metrics.VENDI), (unique, metrics.UNIQUE_CORRECT)):
        figure.update_yaxes(title_text=title(metric), rangemode="tozero", **place)
    for place in (rate, vendi):
        shown = sorted(entropy[TEMPERATURE.name].unique())
        figure.update_xaxes(title_text=TEMPERATURE.name, tickvals=shown, **place)
    shown = sorted(correct["k"].astype(int).unique())
    figure.update_xaxes(type="log", title_text="k, draws of one prompt", tickvals=shown, **unique)
    n = int(pairs["sequences"].iloc[0])
    several = bool((last.groupby("arm")["run"].nunique() > 1).any())
    return styled(
        made,
        "How different what is generated is, and how much of it is valid",
        f"{n} sequences at each temperature. Up and to the right is better, noise goes up and to the left. The other "
        "panels mean something only beside validity; there the world's own sequences are to be met, not passed."
        + " Lines are means over seeds, bars go from the lowest to the highest." * several
        + worlds_in_words(last, ["reference"], ["metric", "n", "k"]),
        legend=[*arms, _WORLD],
    )


def _of(table: pd.DataFrame, metric: Metric, **where: int) -> pd.DataFrame:
    rows = table[table["metric"] == metric.name]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    return rows


def _world(
    figure: go.Figure,
    x: Iterable[float],
    y: Iterable[float],
    place: dict[str, Any],
    *,
    mark: bool = False,
    legend: bool = False,
) -> None:
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            mode="markers" if mark else "lines",
            marker={"color": FAINT, "symbol": "star", "size": 12},
            line={"color": FAINT, "dash": "dash", "width": 1.5},
            name=_WORLD,
            legendgroup=_WORLD,
            legendrank=1001,
            showlegend=legend,
            hovertemplate=f"{_WORLD}\n%{{y:.4g}}",
        ),
        **place,
    )


def _spread(groups: Any, look: Look) -> dict[str, Any]:
    """Bars from the lowest seed to the highest; none of one seed."""
    mean, several = groups.mean(), groups.size() > 1
    return error_bars((groups.max() - mean).where(several), (mean - groups.min()).where(several), look.colour)


def _frontier(
    figure: go.Figure, valid: pd.DataFrame, pairs: pd.DataFrame, arm: str, look: Look, place: dict[str, Any]
) -> None:
    """Validity and valid distinct-2 along the temperatures."""
    x, y = (rows.groupby(TEMPERATURE.name)["value"] for rows in (valid, pairs))
    figure.add_trace(
        go.Scatter(
            x=x.mean(),
            y=y.mean(),
            error_x=_spread(x, look),
            error_y=_spread(y, look),
            text=[f"{arm}, temperature {t:g}" for t in x.mean().index],
            hovertemplate="%{text}\nvalidity %{x:.4f}\nvalid distinct-2 %{y:.4f}",
            showlegend=True,
            **_drawn(arm, look),
        ),
        **place,
    )


def _line(figure: go.Figure, rows: pd.DataFrame, by: str, arm: str, look: Look, place: dict[str, Any]) -> None:
    groups = rows.groupby(by)["value"]
    mean = groups.mean()
    figure.add_trace(
        go.Scatter(
            x=mean.index.astype(float),
            y=mean,
            error_y=_spread(groups, look),
            text=[arm] * len(mean),
            hovertemplate=f"%{{text}}\n{by} %{{x}}\n%{{y:.4g}}",
            showlegend=False,
            **_drawn(arm, look),
        ),
        **place,
    )


def _drawn(arm: str, look: Look) -> dict[str, Any]:
    return {
        "mode": "lines+markers",
        "line": {"color": look.colour, "dash": look.dash, "width": 2.2},
        "marker": {"color": look.colour, "symbol": look.symbol, "size": 8},
        "name": arm,
        "legendgroup": arm,
    }
