"""Learning curves by row entropy, and of copying: one line an arm, seeds as a band."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._by_entropy import by_entropy
from mechdistill.plots._copying import no_matching
from mechdistill.plots._seeds import band_in_words, curve
from mechdistill.plots._style import page, styled
from mechdistill.tables import THIRD_ON, last_step, metrics, title

_TICKS, _MOST_TICKS = 3, 12  # at least and at most, in a panel
_POWERS = range(-12, 13)
_DIGITS = (1, 2, 5), (1, 2, 3, 5, 7)


def row_curves_figure(table: pd.DataFrame) -> go.Figure:
    """A `row-curves` table as six panels: KL to the oracle for each entropy quartile of rows, the final KL of every
    row against its entropy (see `by_entropy`), and, where anything can be copied, copy accuracy at occurrence >= 3
    with the no-matching baseline.

    KL in nats on a log scale, against tokens trained on. Within a quartile, rows are averaged over positions. One line
    an arm; with several seeds their mean, in a band from the lowest to the highest.
    """
    arms = looks(table)
    rows = table[(table["metric"] == metrics.KL.name) & table["row"].notna()]
    buckets = sorted({int(bucket) for bucket in rows["bucket"]})
    ranges = rows.groupby("bucket")["row_entropy"].agg(["min", "max"])
    titles = [f"Rows of entropy {ranges.loc[b, 'min']:.2f} to {ranges.loc[b, 'max']:.2f} nats" for b in buckets]
    copying = table[table["occurrence"] == THIRD_ON]
    accuracy = copying[copying["metric"] == metrics.COPY_ACCURACY.name]
    titles += ["Every row at its last checkpoint", *["Copying at occurrence ≥ 3"] * (len(accuracy) > 0)]
    made = page(titles, 2, 260, horizontal_spacing=0.11)
    figure, places = made.figure, iter(made.places)

    by_bucket = _bucket_means(table)
    for bucket in buckets:
        place = next(places)
        of_bucket = by_bucket[by_bucket["bucket"] == bucket]
        _curves(figure, of_bucket, arms, place, legend=bucket == buckets[0])
        _kl_axis(figure, place, of_bucket["value"])
        figure.update_xaxes(title_text="tokens trained on", rangemode="tozero", **place)

    place = next(places)
    crossed = by_entropy(figure, rows, arms, place)
    _kl_axis(figure, place, last_step(rows)["value"])
    figure.update_xaxes(title_text="row entropy, nats", **place)

    levels, by = list[str](), ""
    for place in places:  # where anything can be copied
        _curves(figure, accuracy, arms, place, legend=False)
        levels, by = no_matching(figure, copying, place, until=float(accuracy["tokens"].max()))
        figure.update_yaxes(title_text=title(metrics.COPY_ACCURACY, THIRD_ON), range=[0, 1.03], **place)
        figure.update_xaxes(title_text="tokens trained on", rangemode="tozero", **place)
    return styled(
        made,
        "How each row is learned, by its entropy",
        "KL: lower is better, 0 is the oracle (log scale)."
        + " Copy accuracy: higher is better." * (len(accuracy) > 0)
        + by
        + band_in_words(rows)
        + " Last checkpoint: a faint mark is a row of one run, a line the mean of rows of like entropy.",
        legend=[*arms, *crossed, *levels],
    )


def _kl_axis(figure: go.Figure, place: dict[str, Any], drawn: "pd.Series[float]") -> None:
    values = log_ticks(drawn[drawn > 0])
    ticks = {"tickvals": values, "ticktext": [f"{value:.6g}" for value in values]}
    figure.update_yaxes({"type": "log", "title": {"text": title(metrics.KL)}, **ticks}, **place)


def log_ticks(drawn: "pd.Series[float]") -> list[float]:
    """Ticks of a log axis: 1, 2 and 5 of every decade; finer ones or even steps where too few lie in what is drawn,
    powers of ten where too many do."""
    usual, more = ([digit * 10.0**power for power in _POWERS for digit in digits] for digits in _DIGITS)
    low, high = drawn.min(), drawn.max()
    if sum(low <= value <= high for value in usual) > _MOST_TICKS:
        return [10.0**power for power in _POWERS]
    for ticks in (usual, more):
        if not low < high or sum(low <= value <= high for value in ticks) >= _TICKS:
            return ticks
    step = max((step for step in usual if high // step - (low - step / 1e6) // step >= _TICKS), default=usual[0])
    even = [float(value) for value in np.arange(np.floor(low / step), np.ceil(high / step) + 1) * step if value > 0]
    return [value for value in usual if value < even[0]] + even + [value for value in usual if value > even[-1]]


def _bucket_means(table: pd.DataFrame) -> pd.DataFrame:
    """KL of each entropy bucket, rows weighted by how many positions they had."""
    keys = ["run", "arm", "seed", "step", "tokens", "bucket", "row"]
    wide = table[table["row"].notna()].pivot(index=keys, columns="metric", values="value").reset_index()
    wide["value"] = wide[metrics.KL.name] * wide[metrics.POSITIONS.name]
    sums = wide.groupby(keys[:-1], as_index=False)[["value", metrics.POSITIONS.name]].sum()
    sums["value"] /= sums[metrics.POSITIONS.name]
    return sums


def _curves(
    figure: go.Figure, data: pd.DataFrame, arms: dict[str, Look], place: dict[str, Any], *, legend: bool
) -> None:
    for arm, look in arms.items():
        curve(figure, data[data["arm"] == arm], look, place, name=arm, group=arm, legend=legend)
