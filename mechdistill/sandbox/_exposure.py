"""How often tokens occur in a world, and how much of it can be copied: computed, not counted.

Given which tokens are triggers and what their targets are, a sequence is a Markov chain, so that both are exact for
each assignment of targets (a chain that must not have met a trigger before gives its first occurrences). Assignments
are all taken with their probabilities where they are few. Where they are many, some are drawn, each trigger's evenly
over its own law (a Latin hypercube), in groups whose spread gives the standard error. Where hundreds of assignments
would take long, as in large worlds and where every token may be a trigger, sequences are drawn and counted.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.sandbox._chain import Chain
from mechdistill.world import Batch

_MOST_ENUMERATED = 2048
_MOST_DRAWN = 2048
_GROUPS = 16
_LEAST_DRAWN = 512
_COUNTED = 2**20  # positions of sequences that are drawn instead
_WORK = 1e10  # multiplications and additions of all chains
_AT_ONCE = 2**22  # numbers of the chains that are walked together

Sample = Callable[[int], Batch]
"""Number of a chunk of sequences -> that chunk."""


class Estimate(NamedTuple):
    """A number for each token or position, and its mean; errors are standard errors, 0 where it is exact."""

    value: NDArray[np.float64]
    error: NDArray[np.float64]
    mean: float
    mean_error: float


class _Assignments(NamedTuple):
    weight: Tensor  # [assignment]
    target: Tensor  # [assignment, trigger]; -1 where the token is no trigger
    groups: int  # independent draws, one after the other; 1: these are all that there are


def occurrence(chain: Chain, sample: Sample) -> Estimate:
    """How often each token stands at a position, [vocab]: the mean over targets (and triggers) and over positions.

    Sums to 1. `sample` gives sequences of the chain, for worlds too large to walk.
    """
    found = _assignments(chain, 1.0)
    if found is None:
        return _counted(chain, sample, _laws_ahead)
    return _estimate(found, _walked(chain, found, _Occurrence))


def copyable_share(chain: Chain, sample: Sample) -> Estimate:
    """P(position q holds a trigger at occurrence >= 2), [seq_len], in [0, 1]."""
    if not chain.rate.any():
        nothing = np.zeros(chain.seq_len)
        return Estimate(nothing, nothing, 0.0, 0.0)
    found = _assignments(chain, 1.0 + len(chain.target_prior))
    if found is None:
        return _counted(chain, sample, _copyable)
    return _estimate(found, _walked(chain, found, _Share))


def _assignments(chain: Chain, chains: float) -> _Assignments | None:
    """All assignments, or as many as can be walked at so many chains each; None where those are too few."""
    rate = chain.rate[chain.rate > 0]
    law = np.column_stack((1 - rate, rate[:, None] * chain.target_prior))  # [trigger, none or a target]
    options = [np.flatnonzero(row) for row in law]
    if math.prod(len(option) for option in options) <= _MOST_ENUMERATED:
        joint = list(itertools.product(*options))
        every = np.array(joint, dtype=np.int64).reshape(len(joint), len(options))
        weight = law[np.arange(len(options)), every].prod(axis=1)
        return _Assignments(torch.from_numpy(weight), torch.from_numpy(every - 1), 1)
    n = int(min(_MOST_DRAWN, _WORK / (2 * chains * chain.vocab**2 * chain.seq_len)))
    if n < _LEAST_DRAWN:
        return None
    size = n // _GROUPS
    rng = np.random.default_rng(np.random.SeedSequence([0, 4]))
    drawn = np.empty((_GROUPS, size, len(law)), dtype=np.int64)
    for group, (i, row) in itertools.product(range(_GROUPS), enumerate(law)):
        even = (rng.permutation(size) + rng.random(size)) / size
        known = np.cumsum(row)
        last = np.flatnonzero(row)[-1]
        drawn[group, :, i] = np.minimum(np.searchsorted(known, even * known[-1], side="right"), last)
    flat = torch.from_numpy(drawn.reshape(-1, len(law)) - 1)
    return _Assignments(torch.full((len(flat),), 1 / len(flat), dtype=torch.float64), flat, _GROUPS)


class _Chains:
    """Laws of where the chains of some assignments are, moved on position by position."""

    def __init__(self, chain: Chain, target: Tensor):
        self._pi, self._rules = torch.tensor(chain.pi), 1 - chain.noise
        self.triggers = torch.tensor(np.flatnonzero(chain.rate > 0))
        self.is_trigger = (target >= 0).double()  # [assignment, trigger]
        self._target = target.clamp(min=0)
        self._start = torch.tensor(chain.start_law)

    def start(self, *shape: int) -> Tensor:
        """Where sequences start: [*shape, vocab]."""
        return self._start.expand(*shape, -1).clone()

    def step(self, law: Tensor) -> Tensor:
        """One position on: [assignment, ..., vocab]."""
        shape = (len(law), *(1,) * (law.dim() - 2), -1)
        ruled = self._rules * law[..., self.triggers] * self.is_trigger.view(shape)
        law = law.index_add(-1, self.triggers, -ruled) @ self._pi
        return law.scatter_add(-1, self._target.view(shape).expand_as(ruled), ruled)


class _Occurrence:
    """By token: how often it stands somewhere."""

    @staticmethod
    def size(chain: Chain) -> int:
        return chain.vocab

    @staticmethod
    def of(chains: _Chains, n: int, seq_len: int) -> Tensor:
        law = chains.start(n)
        total = law.clone()
        for _ in range(seq_len - 1):
            law = chains.step(law)
            total += law
        return total / seq_len


class _Share:
    """By position: how likely a trigger stands there that has occurred before."""

    @staticmethod
    def size(chain: Chain) -> int:
        return chain.vocab * (1 + len(chain.target_prior))

    @staticmethod
    def of(chains: _Chains, n: int, seq_len: int) -> Tensor:
        law, k = chains.start(n), len(chains.triggers)
        unmet = chains.start(n, k)  # mass that meets its trigger is counted as a first occurrence and taken out
        own = slice(None), torch.arange(k), chains.triggers
        share = torch.empty(n, seq_len, dtype=torch.float64)
        for q in range(seq_len):
            again = law[:, chains.triggers] - unmet[own]
            share[:, q] = (again * chains.is_trigger).sum(dim=1)
            unmet[own] = 0.0
            if q < seq_len - 1:
                law, unmet = chains.step(law), chains.step(unmet)
        return share


def _walked(chain: Chain, found: _Assignments, what: type[_Occurrence] | type[_Share]) -> Tensor:
    """Of every assignment in turn: [assignment, token or position]."""
    parts: Iterator[Tensor] = iter(found.target.split(max(1, _AT_ONCE // what.size(chain))))
    return torch.cat([what.of(_Chains(chain, part), len(part), chain.seq_len) for part in parts])


def _estimate(found: _Assignments, values: Tensor) -> Estimate:
    mean = (found.weight[:, None] * values).sum(dim=0).numpy()
    if found.groups == 1:
        return Estimate(mean, np.zeros_like(mean), float(mean.mean()), 0.0)
    return _of_groups(values.view(found.groups, -1, values.shape[1]).mean(dim=1).numpy())


def _of_groups(groups: NDArray[np.float64]) -> Estimate:
    """The mean of independent groups [group, token or position], with its standard error."""
    root = math.sqrt(len(groups))
    means = groups.mean(axis=1)
    return Estimate(
        groups.mean(axis=0),
        groups.std(axis=0, ddof=1) / root,
        float(means.mean()),
        float(means.std(ddof=1) / root),
    )


def _counted(chain: Chain, sample: Sample, what: Callable[[Chain, Batch], NDArray[np.float64]]) -> Estimate:
    """From sequences in groups, a few at a time."""
    groups: list[NDArray[np.float64]] = []
    for number in itertools.count():
        batch = sample(number)
        size = len(batch.sequences) // _GROUPS
        groups += [what(chain, Batch(*parts)) for parts in zip(*(field.split(size) for field in batch), strict=True)]
        if len(groups) * size * chain.seq_len >= _COUNTED:
            break
    return _of_groups(np.stack(groups))


def _laws_ahead(chain: Chain, batch: Batch) -> NDArray[np.float64]:
    """By token: the mean law of each position given the token before it, which spreads less than a count."""
    before = batch.tokens[:, :-1]
    ruled = chain.is_trigger(before, batch.triggers).flatten()
    tokens, following = before.flatten(), batch.tokens[:, 1:].flatten()
    ordinary = torch.bincount(tokens[~ruled], minlength=chain.vocab).double().numpy() @ chain.pi
    total = ordinary + torch.bincount(following[ruled], minlength=chain.vocab).double().numpy()
    total += len(batch.tokens) * chain.start_law
    return total / batch.tokens.numel()


def _copyable(chain: Chain, batch: Batch) -> NDArray[np.float64]:
    return (chain.occurrence(batch.tokens, batch.triggers) >= 2).double().mean(dim=0).numpy()
