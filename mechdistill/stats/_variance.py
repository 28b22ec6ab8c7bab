"""What makes runs differ: the variance of a full crossing of seeds, split among its factors and the rest."""

from collections.abc import Sequence
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mechdistill.errors import MechdistillError

MIN_LEVELS = 3
"""Of a factor: fewer say next to nothing about a variance."""
MIN_FOR_INTERVAL = 5
"""Of every factor: below, draws of levels repeat too often, and intervals of the rest come out too narrow."""
_DRAWS = 2000

Values = npt.NDArray[np.float64]


class Component(NamedTuple):
    """One factor's part in the variance, or that of the rest."""

    axis: int | None
    """Of the crossing; None: the rest."""
    variance: float
    """In the unit of the values squared, at least 0."""
    clamped: bool
    """Whether the estimate was negative."""
    share: float
    """Of the sum of all components, in [0, 1]; nan where all values are equal."""
    low: float
    high: float


def variance_shares(crossing: npt.ArrayLike, level: float = 0.95, seed: int = 0) -> list[Component]:
    """The components of variance of a full crossing of k >= 2 factors, one value a cell, an axis a factor; rest last.

    Random effects: a value is the sum of an effect of each factor's level, of interactions, and of noise, all
    independent. By mean squares MS_S of the sets S of factors (analysis of variance without replication), the component
    of factor f is (levels of f / cells)·Σ_T (-1)^|T| MS_{f ∪ T} over sets T of other factors; of two factors this is
    (MS_f - MS_rest) / levels of the other. It is unbiased; a negative one then counts as 0. The rest is what
    interactions and noise add up to, which one run a cell cannot tell apart. Chance level: where nothing but noise is
    there, components of factors are 0 in the mean, and the clamped shares somewhat above.

    `low` and `high`: percentiles of the shares when the levels of each factor are drawn anew with replacement, 2000
    times (the pigeonhole bootstrap, Owen 2007); nan where a factor has fewer than 5. With few levels they are a rough
    guide: repeated levels look alike.

    Raises MechdistillError for fewer than two axes, an axis of fewer than 3 levels, and a value that is not finite.
    Sources: Searle, Casella & McCulloch 1992, chapter 4; Owen 2007.
    """
    values = np.asarray(crossing, dtype=np.float64)
    if values.ndim < 2 or min(values.shape) < MIN_LEVELS:
        raise MechdistillError(
            f"crossing={'x'.join(map(str, values.shape))}: must have two factors or more, of at least {MIN_LEVELS} "
            "levels each; add seeds"
        )
    if not np.isfinite(values).all():
        raise MechdistillError("crossing: must be finite in every cell; train the runs that are missing")
    found = components(values)
    rng, draws = np.random.default_rng(seed), np.empty((_DRAWS, values.ndim + 1))
    for i in range(_DRAWS):
        draws[i] = _shares(components(values[np.ix_(*(rng.integers(0, n, n) for n in values.shape))]))
    shares = _shares(found)
    enough = min(values.shape) >= MIN_FOR_INTERVAL
    known = draws[~np.isnan(draws).any(axis=1)] if enough else draws[:0]
    tail = 50 * (1 - level)
    low, high = np.percentile(known, [tail, 100 - tail], axis=0) if len(known) else np.full((2, len(found)), np.nan)
    return [
        Component(
            axis if axis < values.ndim else None,
            float(max(found[axis], 0.0)),
            bool(found[axis] < 0),
            float(shares[axis]),
            float(low[axis]),
            float(high[axis]),
        )
        for axis in range(values.ndim + 1)
    ]


def components(values: Values) -> Values:
    """The unbiased estimates, which may be negative: one a factor, in the order of the axes, and the rest."""
    axes = range(values.ndim)
    squares = {part: _mean_square(values, part) for part in _subsets(axes) if part}
    found = {
        part: np.prod([values.shape[axis] for axis in part])
        / values.size
        * sum(
            (-1) ** len(others) * squares[tuple(sorted((*part, *others)))]
            for others in _subsets([axis for axis in axes if axis not in part])
        )
        for part in squares
    }
    return np.array([*(found[(axis,)] for axis in axes), sum(v for part, v in found.items() if len(part) > 1)])


def _subsets(axes: Sequence[int]) -> list[tuple[int, ...]]:
    return list(chain.from_iterable(combinations(axes, size) for size in range(len(axes) + 1)))


def _mean_square(values: Values, part: tuple[int, ...]) -> float:
    """Of the effects of these factors together: their means less those of all smaller sets."""
    effect = values.mean(axis=tuple(axis for axis in range(values.ndim) if axis not in part), keepdims=True)
    for axis in part:
        effect = effect - effect.mean(axis=axis, keepdims=True)
    freedom = np.prod([values.shape[axis] - 1 for axis in part])
    return float((effect**2).sum() * values.size / effect.size / freedom)


def _shares(found: Values) -> Values:
    kept = np.clip(found, 0, None)
    kept[np.abs(found) < 1e-12 * max(float(np.abs(found).max()), 1e-300)] = 0
    total = kept.sum()
    return kept / total if total > 0 else np.full(len(kept), np.nan)
