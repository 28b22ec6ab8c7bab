"""A sandbox: one transition matrix, its triggers, a sampler and the exact oracle.

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

from mechdistill.config import BernoulliTriggers, SandboxConfig
from mechdistill.sandbox import _rows
from mechdistill.sandbox._labels import Batch, Labels
from mechdistill.sandbox._oracle import TriggerRule, same_token_before, trigger_log_law
from mechdistill.sandbox._sampler import alias_table, draw

CHUNK = 2048  # sequences drawn at once
N_BUCKETS = 4  # quartiles of ordinary rows by entropy
_STREAMS = {"train": 0, "evaluation": 1}
Stream = Literal["train", "evaluation"]


class Sandbox:
    """The synthetic bigram world of a `SandboxConfig`."""

    def __init__(self, config: SandboxConfig):
        self.config = config
        k = config.vocab
        world = _rows.transition_matrix(config)
        self.pi = world.pi  # [vocab, vocab] float64
        self.symbols = world.symbols  # what each token stands for
        self.row_entropy = _rows.row_entropy(self.pi)  # [vocab] nats
        self.noise = config.triggers.noise
        self.triggers = self._fixed_triggers()  # () where each sequence draws its own
        self.rate = self._rates()  # [vocab]: probability that a token is a trigger in a sequence

        possible = np.flatnonzero(self.rate > 0)
        self._slot_of = np.full(k, -1)
        self._slot_of[possible] = np.arange(len(possible))
        self.target_prior = self._target_prior(possible)  # [token that can be a trigger, vocab]
        ordinary = np.flatnonzero(self.rate < 1)
        self.bucket = np.full(k, -1)
        by_entropy = ordinary[np.argsort(self.row_entropy[ordinary], kind="stable")]
        self.bucket[by_entropy] = np.arange(len(ordinary)) * N_BUCKETS // len(ordinary)

        # the chain that an observer who never learns triggers and targets would see
        ruled = (1 - self.noise) * self.rate[possible, None]
        self.mean_pi = self.pi.copy()
        self.mean_pi[possible] = ruled * self.target_prior + (1 - ruled) * self.pi[possible]
        self.stationary = _rows.stationary(self.mean_pi)  # [vocab]

        self._rule = TriggerRule(
            torch.from_numpy(self._slot_of),
            torch.from_numpy(self.rate[possible]).log(),
            torch.from_numpy(1 - self.rate[possible]).log(),
            torch.from_numpy(self.target_prior).log(),
            torch.from_numpy(self.pi[possible]),
            self.noise,
        )
        self._row_table = alias_table(self.pi)
        self._prior_table = alias_table(self.target_prior)
        self._start_table = alias_table(self.stationary[None])
        self._chunk: tuple[tuple[int, Stream, int], Batch] | None = None

    def _fixed_triggers(self) -> tuple[int, ...]:
        triggers = self.config.triggers
        if isinstance(triggers, BernoulliTriggers):
            return ()
        if triggers.tokens is not None:
            return tuple(triggers.tokens)
        order = np.argsort(-_rows.stationary(self.pi), kind="stable")  # the most frequent tokens of the plain chain
        return tuple(int(t) for t in order[: triggers.count])

    def _rates(self) -> NDArray[np.float64]:
        triggers = self.config.triggers
        if isinstance(triggers, BernoulliTriggers):
            return np.broadcast_to(np.asarray(triggers.rate, dtype=np.float64), self.config.vocab).copy()
        rate = np.zeros(self.config.vocab)
        rate[list(self.triggers)] = 1.0
        return rate

    def _target_prior(self, possible: NDArray[np.int64]) -> NDArray[np.float64]:
        """Law of each trigger's target: never itself, never a fixed trigger; uniform, or the trigger's own row."""
        prior = np.ones((len(possible), self.config.vocab))
        if self.config.triggers.targets == "row":
            prior *= self.pi[possible]
        prior[:, list(self.triggers)] = 0.0
        prior[np.arange(len(possible)), possible] = 0.0
        return prior / prior.sum(axis=1, keepdims=True)

    @property
    def vocab(self) -> int:
        """Number of tokens."""
        return self.config.vocab

    @property
    def seq_len(self) -> int:
        """Predictions in a sequence; a sequence has seq_len + 1 tokens."""
        return self.config.seq_len

    @cached_property
    def log_pi(self) -> Float[Tensor, "vocab vocab"]:
        """log pi, nats, float32."""
        return torch.from_numpy(self.pi).log().float()

    @cached_property
    def start_token(self) -> int:
        """The commonest token that is no fixed trigger: it stands where other models have a BOS token."""
        return int(np.where(self.rate < 1, self.stationary, -1.0).argmax())

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
        return self.batch(self.config.seed, start, count, "evaluation")

    def law(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The oracle: exact Bayes-optimal log-law of the next token given tokens[:, :pos+1], float32, nats.

        Tokens that are never triggers follow their row of pi; after any other the law is the posterior of
        `_oracle`. -inf where a token is impossible. Works on any prefix, of any length, on the CPU.
        """
        log_law = self.log_pi[tokens]
        batch, pos = (self._rule.slot_of[tokens] >= 0).nonzero(as_tuple=True)
        if len(batch):
            log_law[batch, pos] = trigger_log_law(self._rule, tokens, batch, pos).float()
        return log_law

    def labels(self, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None) -> Labels:
        """What each position is; see `Labels`. `triggers` says which tokens are triggers in each sequence.

        Where triggers are fixed it may be left out. Where each sequence draws its own, tokens alone do not tell:
        then occurrences and buckets raise ValueError, while the oracle, which has to infer them too, is there.
        """
        return Labels(self, tokens, triggers)

    def is_trigger(
        self, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None
    ) -> Bool[Tensor, "batch pos"]:
        """Whether each position holds a trigger; raises ValueError where that cannot be known from tokens."""
        if triggers is not None:
            return triggers.gather(1, tokens)
        if not self.triggers and self.rate.any():
            raise ValueError("bernoulli triggers: tokens do not say which of them are triggers; pass `triggers`")
        return self._rule.slot_of[tokens] >= 0

    def occurrence(
        self, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None
    ) -> Int[Tensor, "batch pos"]:
        """0 where the token is no trigger, else how often that trigger has occurred so far, this time included."""
        same = tokens[:, :, None] == tokens[:, None, :]
        return torch.where(self.is_trigger(tokens, triggers), same.tril().sum(dim=-1), 0)

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

    def lookup_sources(
        self, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None
    ) -> Bool[Tensor, "batch query source"]:
        """The positions right after earlier occurrences of the trigger that a query holds.

        Where an induction head has to look from occurrence >= 2. A query that itself directly follows its earlier
        occurrence (t t) is no source for itself: that would be a self-loop, not copying.
        """
        mask = torch.zeros(*tokens.shape, tokens.shape[1], dtype=torch.bool)
        batch, pos = (self.occurrence(tokens, triggers) >= 2).nonzero(as_tuple=True)
        query, earlier = same_token_before(tokens, batch, pos).nonzero(as_tuple=True)
        proper = earlier + 1 < pos[query]
        mask[batch[query[proper]], pos[query[proper]], earlier[proper] + 1] = True
        return mask

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
            tokens[t + 1, ruled] = targets[ruled, self._slot_of[current[ruled]]]
        return Batch(torch.from_numpy(np.ascontiguousarray(tokens.T)), torch.from_numpy(triggers))
