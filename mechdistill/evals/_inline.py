"""The evaluation that runs inside training: a few per cent of its time, the numbers that learning curves need."""

from collections.abc import Iterator
from typing import Any

from mechdistill.evals._rows import by_bucket, finite
from mechdistill.positions import Positions, masked_mean


def inline_metrics(positions: Positions) -> list[dict[str, Any]]:
    """Rows of the `metrics` table (without the run's columns); rows without any position are left out.

    `loss`: mean cross-entropy over all positions, nats. `kl`: mean KL(oracle ‖ model) where there is no trigger,
    overall and by row-entropy bucket; 0 is perfect. `copy-loss`, `copy-excess` (beyond the oracle's loss, nats) and
    `copy-accuracy` (in [0, 1]) at occurrence 1 and at occurrence >= 2 (given as 2), never pooled; chance accuracy is
    1/vocab, and `no-matching-accuracy` is what a guesser reaches that knows the triggers but matches nothing.
    """
    return finite(_rows(positions))


def _rows(positions: Positions) -> Iterator[dict[str, Any]]:
    data = positions.data
    yield {"metric": "loss", "value": float(positions.loss.mean())}
    yield {"metric": "kl", "value": masked_mean(positions.kl, data.ordinary), "occurrence": 0}
    yield from by_bucket("kl", positions.kl, data)
    for occurrence, mask in ((1, data.first), (2, data.copyable)):
        for metric, values in (
            ("copy-loss", positions.loss),
            ("copy-excess", positions.excess),
            ("copy-accuracy", positions.correct),
        ):
            yield {"metric": metric, "value": masked_mean(values, mask), "occurrence": occurrence}
    yield {
        "metric": "no-matching-accuracy",
        "value": masked_mean(data.no_matching_hits, data.copyable),
        "occurrence": 2,
    }
