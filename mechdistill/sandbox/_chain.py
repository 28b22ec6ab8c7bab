"""The chain behind a sandbox: its transition matrix, its triggers, and the exact oracle. No random sequences here."""

from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.config import BernoulliTriggers, SandboxConfig
from mechdistill.errors import MechdistillError
from mechdistill.sandbox import _rows
from mechdistill.sandbox._corpus import pinned
from mechdistill.sandbox._oracle import TriggerRule, trigger_log_law
from mechdistill.sandbox._ties import descending
from mechdistill.world import N_BUCKETS, Copied, KnownWorld

_NEVER = 1e-6  # a token that stands at a smaller share of positions is taken not to occur
_AT_ONCE = 2**27  # bytes that queries of the oracle may hold together


class Chain(KnownWorld):
    """What is true of every sequence of a sandbox, before one is drawn.

    Three kinds of token matter below. Where triggers are fixed, a token is one always (rate 1) or never (rate 0);
    where sequences draw their own, possibly (rate between). `possible` are those of rate > 0: only they have a target
    law and a slot, their row in the arrays that are kept for triggers alone. `ordinary` are those of rate < 1: they
    follow their row of pi in some sequence, and only they are sorted into buckets.
    """

    slot_of = Copied[np.int64]()
    """[vocab]: where a possible trigger stands in the arrays of possible triggers; -1 for other tokens."""
    target_prior = Copied[np.float64]()
    """[slot, vocab]: law of each possible trigger's target."""
    mean_pi = Copied[np.float64]()
    """[vocab, vocab]: the transition matrix with triggers and targets averaged."""

    def __init__(self, config: SandboxConfig):
        """Raises `MechdistillError` for a text that cannot be read, targets without any law, and triggers that never
        occur.
        """
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
        slot_of = np.full(k, -1)
        slot_of[possible] = np.arange(len(possible))
        self.slot_of = slot_of
        self.target_prior = self._target_prior(possible)  # [slot, vocab]

        # quartiles by rank, so that equal entropies split by token number and every bucket has as many rows
        ordinary = np.flatnonzero(self.rate < 1)
        bucket = np.full(k, -1)
        by_entropy = ordinary[descending(-self.row_entropy[ordinary])]
        bucket[by_entropy] = np.arange(len(ordinary)) * N_BUCKETS // len(ordinary)
        self.bucket = bucket

        # the chain that an observer who never learns triggers and targets would see: a possible trigger's row is its
        # target law with the probability that it is one and the rule holds, else its ordinary row. Its stationary law
        # is where sequences start, so that no position is special
        ruled = (1 - self.noise) * self.rate[possible, None]
        mean_pi = self.pi.copy()
        mean_pi[possible] = ruled * self.target_prior + (1 - ruled) * self.pi[possible]
        self.mean_pi = mean_pi
        self.start_law = _rows.stationary(self.mean_pi)  # [vocab]
        self.unvisited = self._unvisited(possible)
        # the commonest token that is no fixed trigger
        self.start_token = int(descending(np.where(self.rate < 1, self.start_law, -1.0))[0])

        self._rule = TriggerRule(
            torch.tensor(self.slot_of),
            torch.tensor(self.rate[possible]).log(),
            torch.tensor(1 - self.rate[possible]).log(),
            torch.tensor(self.target_prior).log(),
            torch.tensor(self.pi[possible]),
            self.noise,
        )

    def _fixed_triggers(self) -> tuple[int, ...]:
        triggers = self.config.triggers
        if isinstance(triggers, BernoulliTriggers):
            return ()
        if triggers.tokens is not None:
            return tuple(triggers.tokens)
        order = descending(_rows.stationary(self.pi))  # the most frequent tokens of the plain chain
        return tuple(int(t) for t in order[: triggers.count])

    def _unvisited(self, possible: NDArray[np.int64]) -> tuple[int, ...]:
        """Possible triggers that stand at less than one in a million positions."""
        never = tuple(int(token) for token in possible[self.start_law[possible] < _NEVER])
        if never and len(never) == len(possible):
            raise MechdistillError(
                f"sandbox.triggers: no trigger ({', '.join(map(str, never[:5]))}) occurs once in a million positions, "
                "since the rows hardly lead to one; raise rows.low, name other triggers, or set triggers.count to 0"
            )
        return never

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
        mass = prior.sum(axis=1, keepdims=True)
        if (mass < np.finfo(np.float64).tiny).any():
            token = int(possible[int(mass.argmin())])
            raise MechdistillError(
                f"sandbox.triggers.targets=row: the row of trigger {token} leads only to itself and to other triggers, "
                "so it has no law of targets; take targets: uniform, other triggers, or rows with more successors"
            )
        return prior / mass

    def identity(self, *, triggers: bool = False) -> str:
        """What determines the transition matrix, and with `triggers` the oracle; not where a corpus lies."""
        keys = {"vocab", "seed", "rows", *(("triggers",) if triggers else ())}
        return self.config.model_dump_json(include=keys, exclude={"rows": {"path"}})

    @cached_property
    def _log_pi(self) -> Float[Tensor, "vocab vocab"]:
        return torch.tensor(self.pi).log().float()

    @property
    def log_pi(self) -> Float[Tensor, "vocab vocab"]:
        """log pi, nats, float32; a copy of its own."""
        return self._log_pi.clone()

    def law(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """The oracle: exact Bayes-optimal log-law of the next token given tokens[:, :pos+1], float32, nats.

        Tokens that are never triggers follow their row of pi; after any other the law is the posterior of
        `_oracle`. -inf where a token is impossible. Works on any prefix, of any length, on the CPU.
        """
        log_law = self._log_pi[tokens]
        batch, pos = (self._rule.slot_of[tokens] >= 0).nonzero(as_tuple=True)
        # so many queries at once that neither what they see nor what they give takes much
        for part in torch.arange(len(batch)).split(max(1, _AT_ONCE // (64 * self.vocab + 10 * tokens.shape[1]))):
            b, q = batch[part], pos[part]
            log_law[b, q] = trigger_log_law(self._rule, tokens, b, q).float()
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
        return torch.where(self.is_trigger(tokens, triggers), times_so_far(tokens), 0)


def times_so_far(tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch pos"]:
    """How often the token of each position has occurred in its sequence, this time included."""
    ordered, order = tokens.sort(dim=1, stable=True)  # equal tokens side by side, in order of position
    place = torch.arange(tokens.shape[1]).expand_as(tokens)
    begins = torch.ones_like(tokens, dtype=torch.bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    times = place - torch.where(begins, place, 0).cummax(dim=1).values + 1
    return torch.empty_like(times).scatter_(1, order, times)
