"""A sandbox: one transition matrix, its triggers, a sampler and the exact oracle.

Data are a pure function of (data seed, sequence index): sequences come in chunks, and a chunk's generator is keyed
by seed, stream and chunk number alone. Neither batch size nor process nor device can change what sequence i is.
"""

from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import SandboxConfig
from mechdistill.sandbox import _rows
from mechdistill.sandbox._oracle import TriggerRule, same_trigger_before, trigger_log_law
from mechdistill.sandbox._sampler import alias_table, draw

CHUNK = 2048  # sequences drawn at once
N_BUCKETS = 4  # quartiles of ordinary rows by entropy
_STREAMS = {"train": 0, "evaluation": 1}
Stream = Literal["train", "evaluation"]


class Labels:
    """What each position of a batch is, computed when asked for; every field describes the prediction made there."""

    def __init__(self, sandbox: "Sandbox", tokens: Int[Tensor, "batch pos"]):
        self._sandbox = sandbox
        self.row = tokens
        """The current token: the row of pi that applies unless it is a trigger."""

    @cached_property
    def row_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the token's ordinary row, nats."""
        return torch.from_numpy(self._sandbox.row_entropy)[self.row].float()

    @cached_property
    def bucket(self) -> Int[Tensor, "batch pos"]:
        """Quartile of ordinary rows by entropy, 0 lowest; -1 at triggers."""
        return torch.from_numpy(self._sandbox.bucket)[self.row]

    @cached_property
    def occurrence(self) -> Int[Tensor, "batch pos"]:
        """0: no trigger; 1: first occurrence, target unknown; 2 and more: copyable."""
        return self._sandbox.occurrence(self.row)

    @cached_property
    def law(self) -> Float[Tensor, "batch pos vocab"]:
        """The oracle's log-law, nats."""
        return self._sandbox.law(self.row)

    @cached_property
    def oracle_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the oracle's law, nats."""
        return -torch.where(self.law > -torch.inf, self.law.exp() * self.law, 0.0).sum(dim=-1)


class Sandbox:
    """The synthetic bigram world of a `SandboxConfig`."""

    def __init__(self, config: SandboxConfig):
        self.config = config
        k = config.vocab
        rng = np.random.default_rng(np.random.SeedSequence([config.seed, 0]))
        self.pi = _rows.graded(k, config.rows.low, config.rows.high, rng)  # [vocab, vocab] float64
        self.row_entropy = _rows.row_entropy(self.pi)  # [vocab] nats

        triggers = config.triggers
        if triggers.tokens is not None:
            self.triggers = tuple(triggers.tokens)
        else:  # the most frequent tokens of the plain chain
            order = np.argsort(-_rows.stationary(self.pi), kind="stable")
            self.triggers = tuple(int(t) for t in order[: triggers.count])
        self.noise = triggers.noise
        ordinary = np.setdiff1d(np.arange(k), self.triggers)
        self._target_choices = ordinary
        prior = np.zeros((len(self.triggers), k))
        prior[:, ordinary] = 1 / len(ordinary)

        self.bucket = np.full(k, -1)
        self.bucket[ordinary[np.argsort(self.row_entropy[ordinary])]] = (
            np.arange(len(ordinary)) * N_BUCKETS // len(ordinary)
        )
        # the chain that an observer who never learns the targets would see
        self.mean_pi = self.pi.copy()
        self.mean_pi[list(self.triggers)] = (1 - self.noise) * prior + self.noise * self.pi[list(self.triggers)]
        self.stationary = _rows.stationary(self.mean_pi)  # [vocab]

        self._index = np.full(k, -1)
        self._index[list(self.triggers)] = np.arange(len(self.triggers))
        self._rule = TriggerRule(
            torch.from_numpy(self._index),
            torch.from_numpy(prior).log(),
            torch.from_numpy(self.pi[list(self.triggers)]),
            self.noise,
        )
        self._row_table = alias_table(self.pi)
        self._start_table = alias_table(self.stationary[None])
        self._chunk: tuple[tuple[int, Stream, int], Int[Tensor, "sequence pos"]] | None = None

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
        """The commonest token that is no trigger: it stands where other models have a beginning-of-sequence token."""
        return int(self._target_choices[self.stationary[self._target_choices].argmax()])

    def sequences(self, seed: int, start: int, count: int, stream: Stream = "train") -> Int[Tensor, "sequence pos"]:
        """Sequences start .. start+count of the stream (seed, stream): [count, seq_len + 1] token ids."""
        parts: list[Tensor] = []
        while count > 0:
            number, offset = divmod(start, CHUNK)
            take = min(count, CHUNK - offset)
            parts.append(self._cached_chunk(seed, stream, number)[offset : offset + take])
            start, count = start + take, count - take
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def evaluation(self, count: int, start: int = 0) -> Int[Tensor, "sequence pos"]:
        """Held-out sequences, the same for every run in this sandbox: [count, seq_len + 1]."""
        return self.sequences(self.config.seed, start, count, "evaluation")

    def law(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The oracle: exact Bayes-optimal log-law of the next token given tokens[:, :pos+1], float32, nats.

        Ordinary tokens follow their row of pi; after a trigger the law is the posterior of `_oracle`. -inf where a
        token is impossible. Works on any prefix, of any length, on the CPU.
        """
        log_law = self.log_pi[tokens]
        batch, pos = (self._rule.trigger_of[tokens] >= 0).nonzero(as_tuple=True)
        if len(batch):
            log_law[batch, pos] = trigger_log_law(self._rule, tokens, batch, pos).float()
        return log_law

    def occurrence(self, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
        """0 where the token is no trigger, else how often that trigger has occurred so far, this time included."""
        index = self._rule.trigger_of[tokens]
        is_trigger = index[..., None] == torch.arange(len(self.triggers))
        return (is_trigger.cumsum(dim=1) * is_trigger).sum(dim=-1)

    def labels(self, tokens: Int[Tensor, "batch pos"]) -> Labels:
        """What each position is; see `Labels`."""
        return Labels(self, tokens)

    def no_matching_hits(self, sequences: Int[Tensor, "batch pos_plus_1"]) -> Float[Tensor, "batch pos"]:
        """Chance of being right at occurrence >= 2 by guessing the commonest token so far after *any* trigger.

        That guesser knows which tokens are triggers but matches none with its own earlier occurrence, so it needs no
        induction head; copy accuracy means something only above it. Ties count as a random pick among the tied.
        Range [0, 1]; 0 at positions that are not copyable. Takes whole sequences: the last token is only a label.
        """
        prefix, label = sequences[:, :-1], sequences[:, 1:]
        batch, pos = (self.occurrence(prefix) >= 2).nonzero(as_tuple=True)
        before = torch.arange(prefix.shape[1]) < pos[:, None]
        query, earlier = ((self._rule.trigger_of[prefix][batch] >= 0) & before).nonzero(as_tuple=True)
        counts = torch.zeros(len(batch), self.vocab)
        counts.index_put_((query, label[batch[query], earlier]), torch.ones(len(query)), accumulate=True)
        best = counts == counts.amax(dim=1, keepdim=True)
        hits = torch.zeros(prefix.shape)
        hits[batch, pos] = best[torch.arange(len(batch)), label[batch, pos]] / best.sum(dim=1)
        return hits

    def lookup_sources(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch query source"]:
        """1 at the positions right after earlier occurrences of the trigger that a query holds, else 0.

        Where an induction head has to look from occurrence >= 2. A query that itself directly follows its earlier
        occurrence (t t) is no source for itself: that would be a self-loop, not copying.
        """
        mask = torch.zeros(*tokens.shape, tokens.shape[1])
        batch, pos = (self.occurrence(tokens) >= 2).nonzero(as_tuple=True)
        query, earlier = same_trigger_before(tokens, batch, pos).nonzero(as_tuple=True)
        proper = earlier + 1 < pos[query]
        mask[batch[query[proper]], pos[query[proper]], earlier[proper] + 1] = 1.0
        return mask

    def _cached_chunk(self, seed: int, stream: Stream, number: int) -> Int[Tensor, "sequence pos"]:
        key = (seed, stream, number)
        if self._chunk is None or self._chunk[0] != key:
            self._chunk = (key, self._draw_chunk(*key))
        return self._chunk[1]

    def _draw_chunk(self, seed: int, stream: Stream, number: int) -> Int[Tensor, "sequence pos"]:
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, _STREAMS[stream], number])))
        n, steps = CHUNK, self.seq_len
        targets = self._target_choices[rng.integers(len(self._target_choices), size=(n, len(self.triggers)))]
        tokens = np.empty((steps + 1, n), dtype=np.int64)
        tokens[0] = draw(self._start_table, np.zeros(n, dtype=np.int64), rng.random(n))
        uniform = rng.random((steps, n))
        rule_holds = rng.random((steps, n)) >= self.noise
        for t in range(steps):
            current = tokens[t]
            tokens[t + 1] = draw(self._row_table, current, uniform[t])
            trigger = self._index[current]
            ruled = np.flatnonzero((trigger >= 0) & rule_holds[t])
            tokens[t + 1, ruled] = targets[ruled, trigger[ruled]]
        return torch.from_numpy(np.ascontiguousarray(tokens.T))
