"""A sandbox: a chain, and the sequences drawn from it.

Data are a pure function of (data seed, sequence index): sequences come in chunks, and a chunk's generator is keyed
by seed, stream and chunk number alone. Neither batch size nor process nor device can change what sequence i is.
"""

from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.ambient import neutral
from mechdistill.config import SandboxConfig
from mechdistill.sandbox._best_bigram import best_bigram
from mechdistill.sandbox._chain import Chain
from mechdistill.sandbox._data import CHUNK, TrainingData
from mechdistill.sandbox._exposure import Estimate, copyable_share, occurrence
from mechdistill.sandbox._labels import SandboxLabels
from mechdistill.sandbox._no_matching import NoMatching
from mechdistill.sandbox._sampler import AliasTable, alias_table, draw
from mechdistill.world import Batch

_STREAMS = {"train": 0, "evaluation": 1, "reference": 2}
Stream = Literal["train", "evaluation", "reference"]


class Sandbox(Chain):
    """The synthetic bigram world of a `SandboxConfig`: a chain, and the sequences drawn from it."""

    @neutral()
    def __init__(self, config: SandboxConfig):
        super().__init__(config)
        self._chunk: tuple[tuple[int, Stream, int], Batch] | None = None

    @cached_property
    def _row_table(self) -> AliasTable:
        return alias_table(self.pi)

    @cached_property
    def _prior_table(self) -> AliasTable:
        return alias_table(self.target_prior)

    @cached_property
    def _start_table(self) -> AliasTable:
        return alias_table(self.start_law[None])

    def training(self, seed: int, unique: int | None = None) -> TrainingData:
        """The training sequences of a data seed: endless, or `unique` ones reshuffled every epoch."""
        return TrainingData(self.batch, seed, unique)

    def batch(self, seed: int, start: int, count: int, stream: Stream = "train") -> Batch:
        """Sequences start .. start+count of the stream (seed, stream), [count, seq_len + 1], with their triggers.

        Whoever asks gets a copy: what is done to it changes nobody else's.
        """
        parts: list[Batch] = []
        while count > 0:
            number, offset = divmod(start, CHUNK)
            take = min(count, CHUNK - offset)
            chunk = self._cached_chunk(seed, stream, number)
            parts.append(Batch(*(field[offset : offset + take] for field in chunk)))
            start, count = start + take, count - take
        # also of a single part, which is a view of the chunk that is kept, `cat` makes a copy
        return Batch(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

    def sequences(
        self, seed: int, start: int, count: int, stream: Stream = "train"
    ) -> Int[Tensor, "sequence pos_plus_1"]:
        """The tokens of `batch`: [count, seq_len + 1]."""
        return self.batch(seed, start, count, stream).sequences

    def evaluation(self, count: int, start: int = 0) -> Batch:
        """Held-out sequences, the same for every run in this sandbox."""
        return self.batch(self.seed, start, count, "evaluation")

    def labels(
        self, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None
    ) -> SandboxLabels:
        """What each position is; see `Labels`. `triggers` says which tokens are triggers in each sequence.

        Where triggers are fixed it may be left out. Where each sequence draws its own, tokens alone do not tell:
        then occurrences and buckets raise ValueError, while the oracle, which has to infer them too, is there.
        """
        return SandboxLabels(self, tokens, triggers)

    @cached_property
    @neutral()
    def _occurrence(self) -> Estimate:
        return occurrence(self, self._reference)

    @property
    def stationary(self) -> NDArray[np.float64]:
        """[vocab]: how often each token occurs: the mean over targets and triggers, and over positions; sums to 1."""
        return self._occurrence.value.copy()

    @property
    def stationary_error(self) -> float:
        """Standard error of `stationary`, the largest of all tokens; 0 where it is exact."""
        return float(self._occurrence.error.max())

    @property
    def best_bigram(self) -> NDArray[np.float64]:
        """[vocab, vocab]: for each token the mean of the oracle's law at its positions: the table of the least loss."""
        return self._best_bigram.copy()

    @cached_property
    @neutral()
    def _best_bigram(self) -> NDArray[np.float64]:
        return best_bigram(self, lambda: self._reference(0))

    @neutral()
    def copyable_share(self) -> Estimate:
        """P(position q holds a trigger at occurrence >= 2) for every q, with its standard error; see `_exposure`."""
        return copyable_share(self, self._reference)

    @cached_property
    @neutral()
    def _no_matching(self) -> NoMatching:
        return NoMatching(self, self.stationary, self._best_bigram, self._reference(0))

    @property
    def no_matching_guesser(self) -> str:
        """Who guesses in `no_matching_hits`: the exact Bayes guess, or the best of a few rules; see `_no_matching`."""
        return self._no_matching.guesser

    @neutral()
    def no_matching_hits(self, data: Batch) -> Float[Tensor, "batch pos"]:
        """Chance of being right at occurrence >= 2 without matching a trigger with its own earlier occurrence.

        The guesser knows the world, the triggers, the current token and all that has followed triggers so far, but
        not which trigger each successor followed: no induction head is needed for that, so that copy accuracy means
        something only above it. `no_matching_guesser` says who it is. Ties count as a random pick among the tied.
        Range [0, 1]; 0 at positions that are not copyable; 1 is reached where there is a single trigger.
        """
        if not self.rate.any():
            return torch.zeros(data.tokens.shape)
        return self._no_matching.hits(data)

    def _reference(self, number: int) -> Batch:
        """Sequences that nobody is trained or measured on."""
        return self._draw_chunk(self.seed, "reference", number)

    def _cached_chunk(self, seed: int, stream: Stream, number: int) -> Batch:
        key = (seed, stream, number)
        if self._chunk is None or self._chunk[0] != key:
            self._chunk = (key, self._draw_chunk(*key))
        return self._chunk[1]

    @neutral()
    def _draw_chunk(self, seed: int, stream: Stream, number: int) -> Batch:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _STREAMS[stream], number])))
        n, steps, slots = CHUNK, self.seq_len, len(self.target_prior)
        triggers = rng.random((n, self.vocab)) < self.rate
        slot = np.broadcast_to(np.arange(slots), (n, slots))
        targets = draw(self._prior_table, slot, rng.random((n, slots))) if slots else slot
        tokens = np.empty((steps + 1, n), dtype=np.int64)
        tokens[0] = draw(self._start_table, np.zeros(n, dtype=np.int64), rng.random(n))
        uniform = rng.random((steps, n))
        rule_holds = rng.random((steps, n)) >= self.noise
        everyone = np.arange(n)
        for t in range(steps):
            current = tokens[t]
            tokens[t + 1] = draw(self._row_table, current, uniform[t])
            ruled = np.flatnonzero(triggers[everyone, current] & rule_holds[t])
            tokens[t + 1, ruled] = targets[ruled, self.slot_of[current[ruled]]]
        return Batch(torch.from_numpy(np.ascontiguousarray(tokens.T)), torch.from_numpy(triggers))
