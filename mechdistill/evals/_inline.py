"""The evaluation that runs inside training: a few per cent of its time, the numbers that learning curves need."""

from collections.abc import Iterator
from typing import Any

from mechdistill.evals._rows import by_bucket, finite
from mechdistill.positions import Positions, masked_mean
from mechdistill.tables import FIRST, LATER, ORDINARY, metrics


def inline_metrics(positions: Positions) -> list[dict[str, Any]]:
    """Rows of the `metrics` table (without the run's columns); rows without any position are left out.

    `loss`: mean cross-entropy over all positions, nats. `kl`: mean KL(oracle ‖ model) where there is no trigger,
    overall and by row-entropy bucket; 0 is perfect. `copy-loss`, `copy-excess` (beyond the oracle's loss, nats) and
    `copy-accuracy` (in [0, 1]) at occurrence 1 and at occurrence >= 2 (given as 2+), never pooled; chance accuracy is
    1/vocab, and `no-matching-accuracy` is what a guesser reaches that knows the triggers but matches nothing.
    """
    return finite(_rows(positions))


def _rows(positions: Positions) -> Iterator[dict[str, Any]]:
    data = positions.data
    yield metrics.LOSS.row(float(positions.loss.mean()))
    yield metrics.KL.row(masked_mean(positions.kl, data.ordinary), occurrence=ORDINARY)
    yield from by_bucket(metrics.KL, positions.kl, data)
    for occurrence, mask in ((FIRST, data.first), (LATER, data.copyable)):
        for metric, values in (
            (metrics.COPY_LOSS, positions.loss),
            (metrics.COPY_EXCESS, positions.excess),
            (metrics.COPY_ACCURACY, positions.correct),
        ):
            yield metric.row(masked_mean(values, mask), occurrence=occurrence)
    yield metrics.NO_MATCHING.row(masked_mean(data.no_matching_hits, data.copyable), occurrence=LATER)
