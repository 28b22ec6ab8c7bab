"""What the measures share: means over buckets, over rows of the transition matrix, and over occurrences of triggers."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechdistill.positions import EvaluationSet, masked_mean
from mechdistill.tables import FIRST, ORDINARY, SECOND, THIRD_ON, Metric, Occurrence
from mechdistill.world import N_BUCKETS, known


def by_bucket(metric: Metric, values: Float[Tensor, "batch pos"], data: EvaluationSet) -> Iterator[dict[str, Any]]:
    """A row for each entropy quartile: the mean of `values` where there is no trigger; nan where nothing is."""
    for bucket in range(N_BUCKETS):
        mean = masked_mean(values, data.bucket == bucket)
        yield metric.row(mean, bucket=bucket, occurrence=ORDINARY)


class RowMeans(NamedTuple):
    """Of one row of the transition matrix, over the ordinary positions that hold its token."""

    about: dict[str, Any]  # its columns
    visits: int
    means: dict[Metric, float]


def by_row(values: Mapping[Metric, Float[Tensor, "batch pos"]], data: EvaluationSet) -> Iterator[RowMeans]:
    """Means of `values` for each row that an ordinary position visits, in order."""
    world, tokens = known(data.world, "means over rows"), data.tokens[data.ordinary]
    visits = torch.bincount(tokens, minlength=world.vocab)
    sums = {
        metric: torch.zeros(world.vocab, dtype=torch.float64).index_add_(0, tokens, each[data.ordinary].double())
        for metric, each in values.items()
    }
    entropy, bucket = world.row_entropy, world.bucket
    for row in visits.nonzero()[:, 0].tolist():
        n = int(visits[row])
        about = {
            "row": row,
            "row_entropy": float(entropy[row]),
            "bucket": int(bucket[row]),
            "occurrence": ORDINARY,
        }
        yield RowMeans(about, n, {metric: float(total[row]) / n for metric, total in sums.items()})


def occurrences(data: EvaluationSet) -> Iterator[tuple[Occurrence, Bool[Tensor, "batch pos"]]]:
    """Occurrences 1, 2 and 3+ of triggers, never pooled, and where they are."""
    occurrence = data.occurrence
    yield FIRST, occurrence == 1
    yield SECOND, occurrence == 2
    yield THIRD_ON, occurrence >= 3


def finite(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without rows over no position at all (nan), and without infinite values."""
    return [row for row in rows if math.isfinite(row["value"])]
