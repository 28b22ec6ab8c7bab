"""How much of a world can be copied: the probability, position by position, that a trigger stands there again.

Given which tokens are triggers and what their targets are, a sequence is a Markov chain, so the share is exact for
each assignment (a chain that must not have met the trigger before gives the first occurrences). The assignments are
all taken with their probabilities where they are few, and drawn where they are many.
"""

import itertools

import numpy as np
from numpy.typing import NDArray

from mechdistill.sandbox._world import Sandbox

Shares = NDArray[np.float64]
_MOST_ENUMERATED = 2048


def copyable_share(sandbox: Sandbox, *, draws: int = 256) -> Shares:
    """P(position q holds a trigger at occurrence >= 2), [seq_len], in [0, 1].

    Exact where triggers are fixed and their joint targets at most 2048; else the mean over `draws` assignments, with
    a Monte-Carlo error of about 1/sqrt(draws) of the spread between assignments.
    """
    if not sandbox.rate.any():
        return np.zeros(sandbox.seq_len)
    shares = [weight * _given(sandbox, targets) for weight, targets in _assignments(sandbox, draws)]
    return np.sum(shares, axis=0)


def _assignments(sandbox: Sandbox, draws: int) -> list[tuple[float, dict[int, int]]]:
    """(probability, {trigger: target}) of every assignment, or of as many as were drawn."""
    keys = np.flatnonzero(sandbox.rate > 0).tolist()
    options = [np.flatnonzero(prior).tolist() for prior in sandbox.target_prior]
    if sandbox.triggers and np.prod([float(len(option)) for option in options]) <= _MOST_ENUMERATED:
        every = itertools.product(*options)
        return [
            (
                float(np.prod([sandbox.target_prior[i, t] for i, t in enumerate(targets)])),
                dict(zip(keys, targets, strict=True)),
            )
            for targets in every
        ]
    rng = np.random.default_rng(0)
    drawn: list[tuple[float, dict[int, int]]] = []
    for _ in range(draws):
        targets = {
            key: int(rng.choice(sandbox.vocab, p=prior))
            for key, prior in zip(keys, sandbox.target_prior, strict=True)
            if rng.random() < sandbox.rate[key]
        }
        drawn.append((1 / draws, targets))
    return drawn


def _given(sandbox: Sandbox, targets: dict[int, int]) -> Shares:
    rows = sandbox.pi.copy()
    for trigger, target in targets.items():
        rows[trigger] = sandbox.noise * rows[trigger]
        rows[trigger, target] += 1 - sandbox.noise
    triggers = list(targets)
    if not triggers:
        return np.zeros(sandbox.seq_len)
    # one chain an unmet trigger: mass that meets it is counted as its first occurrence and removed
    unmet = np.repeat(sandbox.stationary[None], len(triggers), axis=0)  # [trigger, token]
    law = sandbox.stationary.copy()
    own = np.arange(len(triggers)), np.array(triggers)
    share = np.empty(sandbox.seq_len)
    for q in range(sandbox.seq_len):
        share[q] = law[triggers].sum() - unmet[own].sum()
        unmet[own] = 0.0
        unmet, law = unmet @ rows, law @ rows
    return share
