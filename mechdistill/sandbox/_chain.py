"""The chain behind a sandbox: its transition matrix, its triggers, and the exact oracle. No random sequences here."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.config import BernoulliTriggers, SandboxConfig
from mechdistill.sandbox import _rows
from mechdistill.sandbox._corpus import pinned
from mechdistill.sandbox._oracle import TriggerRule, trigger_log_law
from mechdistill.world import N_BUCKETS, KnownWorld


class Chain(KnownWorld):
    """What is true of every sequence of a sandbox, before one is drawn.

    Three kinds of token matter below. Where triggers are fixed, a token is one always (rate 1) or never (rate 0);
    where sequences draw their own, possibly (rate between). `possible` are those of rate > 0: only they have a target
    law and a slot, their row in the arrays that are kept for triggers alone. `ordinary` are those of rate < 1: they
    follow their row of pi in some sequence, and only they are sorted into buckets.
    """

    def __init__(self, config: SandboxConfig):
        self.config = config = pinned(config)  # what its text says is part of what it is
        k = self.vocab = config.vocab
        self.seq_len = config.seq_len
        self.seed = config.seed
        self.provides = frozenset({"oracle"} if config.is_plain else {"oracle", "triggers"})
        self.shows_triggers = config.shows_triggers
        world = _rows.transition_matrix(config)
        self.pi = world.pi  # [vocab, vocab] float64
        self.symbols = world.symbols  # what each token stands for
        self.row_entropy = _rows.row_entropy(self.pi)  # [vocab] nats
        self.noise = config.triggers.noise
        self.triggers = self._fixed_triggers()  # () where each sequence draws its own
        self.rate = self._rates()  # [vocab]: probability that a token is a trigger in a sequence

        possible = np.flatnonzero(self.rate > 0)
        self.slot_of = np.full(k, -1)
        self.slot_of[possible] = np.arange(len(possible))
        self.target_prior = self._target_prior(possible)  # [slot, vocab]

        # quartiles by rank, so that equal entropies split by token number and every bucket has as many rows
        ordinary = np.flatnonzero(self.rate < 1)
        self.bucket = np.full(k, -1)
        by_entropy = ordinary[np.argsort(self.row_entropy[ordinary], kind="stable")]
        self.bucket[by_entropy] = np.arange(len(ordinary)) * N_BUCKETS // len(ordinary)

        # the chain that an observer who never learns triggers and targets would see: a possible trigger's row is its
        # target law with the probability that it is one and the rule holds, else its ordinary row. Its stationary law
        # is where sequences start, so that no position is special
        ruled = (1 - self.noise) * self.rate[possible, None]
        self.mean_pi = self.pi.copy()
        self.mean_pi[possible] = ruled * self.target_prior + (1 - ruled) * self.pi[possible]
        self.stationary = _rows.stationary(self.mean_pi)  # [vocab]
        # the commonest token that is no fixed trigger
        self.start_token = int(np.where(self.rate < 1, self.stationary, -1.0).argmax())

        self._rule = TriggerRule(
            torch.from_numpy(self.slot_of),
            torch.from_numpy(self.rate[possible]).log(),
            torch.from_numpy(1 - self.rate[possible]).log(),
            torch.from_numpy(self.target_prior).log(),
            torch.from_numpy(self.pi[possible]),
            self.noise,
        )

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

    def identity(self, *, triggers: bool = False) -> str:
        """What determines the transition matrix, and with `triggers` the oracle; not where a corpus lies."""
        keys = {"vocab", "seed", "rows", *(("triggers",) if triggers else ())}
        return self.config.model_dump_json(include=keys, exclude={"rows": {"path"}})

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
