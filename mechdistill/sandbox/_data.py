"""What a run trains on: an endless stream, or a finite set read in a new order every epoch."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from mechdistill.world import Batch, Stream

CHUNK = 2048  # sequences drawn at once
_SHUFFLE = 2  # keeps the generators of epochs apart from those of the streams


Draw = Callable[[int, int, int], Batch]
"""(seed, start, count) -> sequences start .. start + count of a seed's endless stream."""


class TrainingData(Stream):
    """Sequence number i of a run, a pure function of (data seed, i) in both cases.

    With `unique` sequences, number i is sequence perm_e(i mod unique) of the stream, where e = i // unique is the
    epoch and perm_e a permutation drawn from (seed, e).
    """

    def __init__(self, draw: Draw, seed: int, unique: int | None):
        self._draw, self._seed, self._unique = draw, seed, unique
        self._bank = draw(seed, 0, unique) if unique is not None else None
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def batch(self, start: int, count: int) -> Batch:
        """Sequences number start .. start + count."""
        if self._unique is None or self._bank is None:
            return self._draw(self._seed, start, count)
        numbers = range(start, start + count)
        index = torch.tensor([self._permutation(i // self._unique)[i % self._unique] for i in numbers])
        return Batch(*(field[index] for field in self._bank))

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if self._order is None or self._order[0] != epoch:
            key = np.random.SeedSequence([self._seed, _SHUFFLE, epoch])
            self._order = (epoch, np.random.default_rng(key).permutation(self._unique or 0))
        return self._order[1]
