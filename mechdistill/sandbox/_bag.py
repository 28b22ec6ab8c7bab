"""The exact Bayes guess of an observer who sees what has followed triggers, but not which trigger each followed.

The observer knows the world: the triggers 1..K, how often each occurs (w_i, normalised), the laws of their targets, the
rows. At a copyable position of trigger t it has the bag of all that has followed triggers so far (n_k times token k)
and takes every successor to have followed trigger i with probability w_i. So, over the joint targets c_1..c_K,

    P(c | bag, t occurred)  ∝  Π_i prior_i(c_i) · [Π_k L_k(c)^n_k - Π_k L'_k(c)^n_k]
    L_k(c) = Σ_i w_i · [(1-eps)·1(c_i = k) + eps·pi_i(k)],   L' the same without t: the bag had t never occurred,

and the guess is the likeliest next token, (1-eps)·P(c_t = y) + eps·pi_t(y).

L depends on the *set* of triggers that share a target, so the sum over joint targets is one over ways to hand out
disjoint sets of triggers to the D distinct successors (what nobody gets has a target that is not in the bag): a
dynamic program over sets, O(D² · 3^(K-1)) instead of (D+1)^K, in logarithms.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tokens = NDArray[np.int64]

_AT_ONCE = 2**22  # numbers of a step of the program


class BagWorld(NamedTuple):
    """What the observer knows."""

    triggers: Tokens  # [trigger]
    weight: Array  # [trigger]: how often each occurs, summing to 1
    prior: Array  # [trigger, vocab]: law of its target
    pi: Array  # [trigger, vocab]: its ordinary row
    noise: float


def next_law(world: BagWorld, token: Tokens, bag: Tokens) -> Array:
    """The observer's law of the next token [query, vocab], given the triggers `token` [query] that stand there now
    and what has followed triggers so far, `bag` [query, vocab] counts.
    """
    distinct, back = np.unique(np.column_stack((token, bag)), axis=0, return_inverse=True)
    law = np.empty((len(distinct), bag.shape[1]))
    size = np.count_nonzero(distinct[:, 1:], axis=1)
    for slot, trigger in enumerate(world.triggers.tolist()):
        for d in np.unique(size).tolist():
            group = np.flatnonzero((distinct[:, 0] == trigger) & (size == d))
            step = max(1, _AT_ONCE // ((d + 2) * 3 ** (len(world.triggers) - 1)))
            for first in range(0, len(group), step):
                part = group[first : first + step]
                law[part] = _of_one_trigger(world, slot, distinct[part, 1:], d)
    return law[back.reshape(-1)]


def _of_one_trigger(world: BagWorld, t: int, bag: Tokens, d: int) -> Array:
    """The law after trigger number t, of bags of d distinct tokens each."""
    everyone = np.arange(len(bag))[:, None]
    token = np.argsort(-bag, axis=1, kind="stable")[:, :d]  # [query, d]
    count = bag[everyone, token]
    others = [i for i in range(len(world.triggers)) if i != t]
    member, sets = _membership(len(others)), 2 ** len(others)
    with np.errstate(all="ignore"):
        weight = member @ world.weight[others]  # [set]
        log_prior = np.log(world.prior[others][:, token])  # [other, query, d]
        elsewhere = 1 - world.prior[:, token].sum(axis=2)  # [trigger, query]: a target that is not in the bag
        elsewhere = np.where(elsewhere < 1e-12, 0.0, elsewhere)
        by_noise = world.noise * world.weight[:, None, None] * world.pi[:, token]  # [trigger, query, d]
        other_noise = by_noise[others].sum(axis=0)

        # program states: t has had no part at all; t has no token yet; t has the first token, the second, ...
        state = np.full((len(bag), d + 2, sets), -np.inf)
        state[:, :2, 0] = 0.0
        for k in range(d):
            shared = _sum_over(member, log_prior[:, :, k])  # [query, set]
            n, hit = count[:, k, None], (1 - world.noise) * weight
            without = shared + n * np.log(hit + other_noise[:, k, None])
            noisy = other_noise[:, k, None] + by_noise[t][:, k, None]
            misses = shared + n * np.log(hit + noisy)
            holds = shared + n * np.log(hit + (1 - world.noise) * world.weight[t] + noisy)
            before = state[:, 1].copy()
            state[:, 0] = _handed_out(state[:, :1], without)[:, 0]
            state[:, 1 : k + 2] = _handed_out(state[:, 1 : k + 2], misses)
            state[:, k + 2] = _handed_out(before[:, None], holds)[:, 0]
        rest = _sum_over(member, np.log(elsewhere[others]))[:, ::-1]  # of the complement of each set
        total = np.logaddexp.reduce(state + rest[:, None], axis=2)  # [query, state]
        absent, present = total[:, :1], total[:, 1:]
        own = np.concatenate((elsewhere[t][:, None], world.prior[t][token]), axis=1)
        gap = np.where(present > -np.inf, np.minimum(absent - present, 0.0), 0.0)  # log(L' / L)
        log_target = np.log(own) + present + np.log(-np.expm1(gap))
        target = np.exp(log_target - log_target.max(axis=1, keepdims=True))
    target /= target.sum(axis=1, keepdims=True)
    outside = np.where(bag > 0, 0.0, world.prior[t])
    mass = outside.sum(axis=1, keepdims=True)
    law = outside * np.divide(target[:, :1], mass, out=np.zeros_like(mass), where=mass > 0)
    law[everyone, token] = target[:, 1:]
    return (1 - world.noise) * law + world.noise * world.pi[t]


@lru_cache
def _membership(n: int) -> Array:
    """[set, member]: 1 where a member is in the set that has its bit."""
    return ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(float)


def _sum_over(member: Array, values: Array) -> Array:
    """Sums of values [member, query] over every set: [query, set]; -inf counts where it is in the set."""
    chosen = member[:, :, None] > 0
    return np.where(chosen, values, 0.0).sum(axis=1).T


class _Pairs(NamedTuple):
    given: Tokens
    before: Tokens
    starts: Tokens
    whole: Tokens


@lru_cache
def _pairs(sets: int) -> _Pairs:
    """All (set, subset), by set: what is given now, what was given before, where each set begins, and the set."""
    whole, given = np.nonzero((np.arange(sets)[:, None] | np.arange(sets)) == np.arange(sets)[:, None])
    starts = np.searchsorted(whole, np.arange(sets))
    return _Pairs(given, whole ^ given, starts, whole)


def _handed_out(state: Array, gives: Array) -> Array:
    """log Σ over subsets S of each set M of exp(state[M - S] + gives[S]): [query, state, set]."""
    pairs = _pairs(state.shape[-1])
    terms = state[:, :, pairs.before] + gives[:, None, pairs.given]
    top = np.maximum.reduceat(terms, pairs.starts, axis=-1)
    top = np.where(np.isfinite(top), top, 0.0)
    terms -= top[:, :, pairs.whole]
    return top + np.log(np.add.reduceat(np.exp(terms, out=terms), pairs.starts, axis=-1))
