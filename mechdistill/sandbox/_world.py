"""A sandbox: a chain, and the sequences drawn from it.

Data are a pure function of (data seed, sequence index): sequences come in chunks, and a chunk's generator is keyed
by seed, stream and chunk number alone. Neither batch size nor process nor device can change what sequence i is.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.config import SandboxConfig
from mechdistill.sandbox._chain import Chain
from mechdistill.sandbox._data import CHUNK, TrainingData
from mechdistill.sandbox._labels import SandboxLabels
from mechdistill.sandbox._sampler import alias_table, draw
from mechdistill.world import Batch

_STREAMS = {"train": 0, "evaluation": 1}
Stream = Literal["train", "evaluation"]


class Sandbox(Chain):
    """The synthetic bigram world of a `SandboxConfig`: a chain, and the sequences drawn from it."""

    def __init__(self, config: SandboxConfig):
        super().__init__(config)
        self._row_table = alias_table(self.pi)
        self._prior_table = alias_table(self.target_prior)
        self._start_table = alias_table(self.stationary[None])
        self._chunk: tuple[tuple[int, Stream, int], Batch] | None = None

    def training(self, seed: int, unique: int | None = None) -> TrainingData:
        """The training sequences of a data seed: endless, or `unique` ones reshuffled every epoch."""
        return TrainingData(self.batch, seed, unique)

    def batch(self, seed: int, start: int, count: int, stream: Stream = "train") -> Batch:
        """Sequences start .. start+count of the stream (seed, stream), [count, seq_len + 1], with their triggers."""
        parts: list[Batch] = []
        while count > 0:
            number, offset = divmod(start, CHUNK)
            take = min(count, CHUNK - offset)
            chunk = self._cached_chunk(seed, stream, number)
            parts.append(Batch(*(field[offset : offset + take] for field in chunk)))
            start, count = start + take, count - take
        return parts[0] if len(parts) == 1 else Batch(*(torch.cat(fields) for fields in zip(*parts, strict=True)))

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

    def no_matching_hits(self, data: Batch) -> Float[Tensor, "batch pos"]:
        """Chance of being right at occurrence >= 2 by guessing the commonest token so far after *any* trigger.

        That guesser knows which tokens are triggers but matches none with its own earlier occurrence, so it needs no
        induction head; copy accuracy means something only above it. Ties count as a random pick among the tied.
        Range [0, 1]; 0 at positions that are not copyable.
        """
        tokens, next_tokens = data.tokens, data.next_tokens
        batch, pos = (self.occurrence(tokens, data.triggers) >= 2).nonzero(as_tuple=True)
        before = torch.arange(tokens.shape[1]) < pos[:, None]
        query, earlier = (self.is_trigger(tokens, data.triggers)[batch] & before).nonzero(as_tuple=True)
        counts = torch.zeros(len(batch), self.vocab)
        counts.index_put_((query, next_tokens[batch[query], earlier]), torch.ones(len(query)), accumulate=True)
        best = counts == counts.amax(dim=1, keepdim=True)
        hits = torch.zeros(tokens.shape)
        hits[batch, pos] = best[torch.arange(len(batch)), next_tokens[batch, pos]] / best.sum(dim=1)
        return hits

    def _cached_chunk(self, seed: int, stream: Stream, number: int) -> Batch:
        key = (seed, stream, number)
        if self._chunk is None or self._chunk[0] != key:
            self._chunk = (key, self._draw_chunk(*key))
        return self._chunk[1]

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
