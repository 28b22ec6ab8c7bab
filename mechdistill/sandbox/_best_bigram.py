"""The table without context that has the least loss: for each token, the mean of the oracle's law at its positions.

Rows of tokens that are never triggers are those of pi. At trigger t the mean law of the target is its prior weighted by
how often t comes once its target is c: by renewal from the first-passage law of the chain, in which the other triggers'
targets are averaged (exact for one trigger, and better than draws of all targets).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from mechdistill.sandbox._chain import Chain
from mechdistill.world import Batch

Array = NDArray[np.float64]

_WORK = 2e10  # multiplications and additions


def best_bigram(chain: Chain, sample: Callable[[], Batch]) -> Array:
    """The table, [vocab, vocab]; in worlds so large that it would take long it is counted on a sample."""
    possible = np.flatnonzero(chain.rate > 0)
    table = chain.pi.copy()
    if not len(possible):
        return table
    rows, rate, noise = chain.pi[possible], chain.rate[possible], chain.noise
    k, v, length = len(possible), chain.vocab, chain.seq_len
    if 2 * k * v * length * (v + length) <= _WORK:
        visits = _visits(chain, possible)
        targets = rate[:, None] * chain.target_prior * visits[:, :v]
        follows = (1 - noise) * targets + noise * targets.sum(axis=1, keepdims=True) * rows
        follows += ((1 - rate) * visits[:, v])[:, None] * rows
    else:
        # as if each had been seen once more: no target that can be gets no chance
        follows = _counted(chain, sample()) + chain.mean_pi[possible]
    mass = follows.sum(axis=1, keepdims=True)
    table[possible] = np.where(mass > 0, follows / np.where(mass > 0, mass, 1.0), chain.mean_pi[possible])
    return table


def _visits(chain: Chain, possible: NDArray[np.int64]) -> Array:
    """Expected visits of a sequence to each possible trigger given its target, or, last, that it is none.

    [trigger, vocab + 1].
    """
    own, length, noise = (possible, np.arange(len(possible))), chain.seq_len, chain.noise
    rows = chain.pi[possible]
    hit = chain.mean_pi[:, possible].copy()  # [token, trigger]: P(first visit n steps on)
    first = np.empty((length, len(possible)))  # by position
    again = np.zeros((length, len(possible), chain.vocab + 1))  # by how many steps after a visit
    first[0] = chain.start_law[possible]
    self_loop = rows[own[1], possible][:, None]
    if length > 1:
        again[1] = noise * self_loop
        again[1, :, -1:] = self_loop
    for n in range(1, length):
        hit[own] = 0.0
        first[n] = chain.start_law @ hit
        if n + 1 < length:
            by_row = np.einsum("kv,vk->k", rows, hit)[:, None]
            again[n + 1, :, :-1] = (1 - noise) * hit.T + noise * by_row
            again[n + 1, :, -1:] = by_row
            hit = chain.mean_pi @ hit
    counted = np.ones_like(again)  # visits in n further steps, this one included
    for n in range(1, length):
        counted[n] += np.einsum("jkv,jkv->kv", counted[:n], again[n:0:-1])
    return np.einsum("qk,qkv->kv", first, counted[::-1])


def _counted(chain: Chain, batch: Batch) -> Array:
    """How often each token followed each possible trigger, [trigger, vocab]."""
    slot = torch.tensor(chain.slot_of)[batch.tokens]
    at = slot >= 0
    counts = np.zeros(chain.target_prior.shape)
    np.add.at(counts, (slot[at].numpy(), batch.next_tokens[at].numpy()), 1.0)
    return counts
