"""When the two parts of the copy circuit form: the best head of each, over training."""

from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import Head, Score, ranking
from mechdistill.circuits.scores import PREVIOUS_AFTER_TRIGGER
from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import FAINT, INK, SHADES
from mechdistill.plots._seeds import band_in_words, curve
from mechdistill.plots._style import page, styled
from mechdistill.plots._twins import columns_for
from mechdistill.tables import last_step

_LOOKS = (Look(INK, "solid", "circle"), Look(SHADES[3], "dash", "square"))  # of no arm


class _Part(NamedTuple):
    """One half of the circuit: the score that shows it."""

    score: Score
    look: Look

    @property
    def name(self) -> str:
        return f"best head, {self.score.label}"


def head_dynamics_figure(table: pd.DataFrame) -> go.Figure | None:
    """An `induction-scores` table of several checkpoints as curves against tokens trained on, a panel an arm.

    Of each run two heads: the best by the score that ranks heads, and the best by previous token after a trigger, each
    as of the last checkpoint; seeds as mean and band, their nulls dotted, all other heads faint. Scores in [0, 1]. None
    where no run has two checkpoints.
    """
    single = table[table["source_layer"].isna()]
    measured = set(single["metric"])
    looked_up = ranking(measured)
    known = [score for score in (looked_up, PREVIOUS_AFTER_TRIGGER) if score.name in measured]
    if not known or not bool((single.groupby("run")["step"].nunique() > 1).any()):
        return None
    parts = [_Part(score, look) for score, look in zip(known, _LOOKS, strict=False)]
    arms = list(looks(single))
    columns = columns_for(len(arms))
    made = page(arms, columns, 250, shared_yaxes=True, horizontal_spacing=0.03)
    figure = made.figure
    for arm, place in zip(arms, made.places, strict=True):
        of_arm = single[single["arm"] == arm]
        first = place == made.places[0]
        for part in parts:
            rows = of_arm[of_arm["metric"] == part.score.name]
            best = _best(rows)
            _others(figure, rows[~best], place, legend=first and part is parts[0])
        for part in parts:
            rows = of_arm[of_arm["metric"] == part.score.name]
            best = rows[_best(rows)]
            _null(figure, best, part, place, legend=first and part is parts[0])
            heads = ", ".join(
                dict.fromkeys(str(Head(*pair)) for pair in best[["layer", "head"]].astype(int).to_numpy())
            )
            curve(
                figure,
                best,
                part.look,
                place,
                name=part.name,
                group=part.score.name,
                legend=first,
                of=f"{arm}, {heads}",
            )
        figure.update_xaxes(
            title_text="tokens trained on", rangemode="tozero", nticks=5 if columns < 4 else 3, tickangle=0, **place
        )
        figure.update_yaxes(range=[0, 1.03], **place)
        if place["col"] == 1:
            figure.update_yaxes(title_text="score: share of attention", **place)
    return styled(
        made,
        "When the copy circuit forms: its best heads over training",
        "Higher: the head pays more of its attention to what its part of the circuit needs. At the dotted null, or "
        "below, it does not do that at all." + band_in_words(single),
        legend=[*(part.name for part in parts), "null of these heads", "other heads"],
    )


def _best(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Which rows are of the head that scores highest in its run's last checkpoint."""
    last = last_step(rows)
    best = last.loc[last.groupby("run")["value"].idxmax()]
    keys = ["run", "layer", "head"]
    chosen = set(best[keys].itertuples(index=False, name=None))
    return pd.Series([key in chosen for key in rows[keys].itertuples(index=False, name=None)], index=rows.index)


def _others(figure: go.Figure, rows: pd.DataFrame, place: dict[str, Any], *, legend: bool) -> None:
    """Every other head as one thin line, all in one trace."""
    x: list[float | None] = []
    y: list[float | None] = []
    for _, line in rows.groupby(["run", "layer", "head"], sort=False):
        line = line.sort_values("tokens")
        x += [*line["tokens"].astype(float), None]
        y += [*line["value"], None]
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": FAINT, "width": 1},
            opacity=0.35,
            name="other heads",
            legendrank=1002,
            legendgroup="other heads",
            showlegend=legend,
            hoverinfo="skip",
        ),
        **place,
    )


def _null(figure: go.Figure, best: pd.DataFrame, part: _Part, place: dict[str, Any], *, legend: bool) -> None:
    """What the same heads pay to places that the score does not name; uniform attention where there is no null.

    It goes as far as the heads' own curve.
    """
    level = best["null_mean"].fillna(best["chance"])
    wide = best.assign(level=level).pivot(index="tokens", columns="run", values="level").sort_index().dropna()
    figure.add_trace(
        go.Scatter(
            x=wide.index.astype(float),
            y=wide.mean(axis=1),
            mode="lines",
            line={"color": FAINT, "dash": "dot", "width": 2},
            name="null of these heads",
            legendrank=1001,
            legendgroup="null",
            showlegend=legend,
            hovertemplate=f"null, {part.score.label}: %{{y:.3f}}",
        ),
        **place,
    )
