"""The best guess at copyable positions that takes no matching, and who makes it.

A guesser knows the world, the triggers, the current token and the bag of all that has followed triggers so far: how
often each token did, neither after which trigger nor how often which trigger came (who counted the triggers too would
need a count of each, and would guess better). It does not look up what followed *this* trigger, so that it needs no
induction head, and copy accuracy means something only above it.
Where it can be had in good time, that is the exact Bayes guess (`_bag`). Otherwise, or where it is beaten since its
idea of how often triggers come is too simple, it is the best of a few rules. Which is settled once for a world, on
sequences that nobody is measured on; tables without context are among them, the best at copyable positions and the best
everywhere, so that no model without heads is better.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.sandbox import _bag
from mechdistill.sandbox._chain import Chain
from mechdistill.world import BIGRAM, COUNT, COUNT_BY_ROW, EXACT_BAYES, ONE_AT_A_TIME, TABLE, Batch

Scores = NDArray[np.float64]  # [query, vocab]: the guess is the largest; chance among equals

_AT_ONCE = 2**23  # counts of successors that are held together
_MOST_WORK = 6_000  # of the exact guess, a query
_CHOOSING = 2**16  # positions on which rules are compared with each other
_CHECKING = 2**13  # positions on which they are compared with the exact guess
_BETTER = 3.0  # standard errors by which a rule must beat the exact guess


class Queries(NamedTuple):
    """Copyable positions, and what is seen there."""

    where: tuple[Tensor, ...]  # (sequence, position) of each
    token: NDArray[np.int64]  # [query]: the trigger that stands there
    bag: NDArray[np.int64]  # [query, vocab]: how often each token has followed a trigger so far
    triggers: NDArray[np.bool_]  # [query, vocab]: which tokens are triggers in that sequence
    answer: NDArray[np.int64]  # [query]: what comes next


class NoMatching:
    """The guesser of a world, and how often it is right."""

    def __init__(self, chain: Chain, occurrence: NDArray[np.float64], bigram: NDArray[np.float64], reference: Batch):
        """`occurrence`: how often each token occurs. `bigram`: what follows it on average, [vocab, vocab].

        `reference`: sequences of which one half fits the table of copyable positions, and the other chooses.
        """
        self._chain, self._occurrence = chain, occurrence
        self._pi, self._prior, self._slot_of = chain.pi, chain.target_prior, chain.slot_of
        self._possible = np.flatnonzero(chain.rate > 0)
        # [trigger, vocab]: law of a first successor
        self._row = (1 - chain.noise) * self._prior + chain.noise * self._pi[self._possible]
        half = len(reference.tokens) // 2
        self._table = self._fitted(Batch(*(field[half:] for field in reference)))
        possible: Scores = np.where(self._prior > 0, 1.0, 0.0)
        rules: dict[str, Callable[[Queries], Scores]] = {
            TABLE: lambda seen: self._table[self._slot(seen)],
            BIGRAM: lambda seen: bigram[seen.token],
            COUNT: lambda seen: possible[self._slot(seen)] * seen.bag,
            COUNT_BY_ROW: lambda seen: self._row[self._slot(seen)] * seen.bag,
            ONE_AT_A_TIME: self._one_at_a_time,
        }
        if self._is_exact:
            rules = {EXACT_BAYES: self._together, **rules}
        some = Batch(
            *(
                field[: min(half, max(1, (_CHECKING if self._is_exact else _CHOOSING) // chain.seq_len))]
                for field in reference
            )
        )
        found = [seen for seen in map(self._seen, self._parts(some)) if len(seen.token)]
        hits = {
            name: np.concatenate([_hits(rule(seen), seen) for seen in found] or [[0.0]]) for name, rule in rules.items()
        }
        self.guesser = max(hits, key=lambda name: float(hits[name].mean()))
        """Whose guess it is: one of `GUESSERS`."""
        if self._is_exact:
            better = hits[self.guesser] - hits[EXACT_BAYES]
            if better.mean() <= _BETTER * better.std() / math.sqrt(len(better)):
                self.guesser = EXACT_BAYES
        self._rule = rules[self.guesser]

    def hits(self, data: Batch) -> Float[Tensor, "batch pos"]:
        """The chance of being right at each position, in [0, 1]; 0 where nothing can be copied."""
        return torch.cat([self._hits_of(part) for part in self._parts(data)])

    def _hits_of(self, part: Batch) -> Float[Tensor, "batch pos"]:
        hits, seen = torch.zeros(part.tokens.shape), self._seen(part)
        hits[seen.where] = torch.from_numpy(_hits(self._rule(seen), seen)).float()
        return hits

    @property
    def _is_exact(self) -> bool:
        """Whether the exact guess can be had: K triggers, the same in every sequence, and 3^K · D small enough, with D
        how many tokens can follow them: K without noise, else as many as there are triggers to follow in a sequence.
        """
        chain, k = self._chain, len(self._chain.triggers)
        followed = float(self._occurrence[list(chain.triggers)].sum()) * chain.seq_len
        distinct = min(chain.vocab, followed) if chain.noise else k
        return k > 0 and 3.0 ** min(k, 99) * distinct <= _MOST_WORK

    def _parts(self, data: Batch) -> Iterator[Batch]:
        """A few sequences at a time."""
        size = max(1, _AT_ONCE // (data.tokens.shape[1] * self._chain.vocab))
        return (Batch(*part) for part in zip(*(field.split(size) for field in data), strict=True))

    def _seen(self, data: Batch) -> Queries:
        chain, tokens, following = self._chain, data.tokens, data.next_tokens
        where = (chain.occurrence(tokens, data.triggers) >= 2).nonzero(as_tuple=True)
        followed = torch.zeros(*tokens.shape, chain.vocab, dtype=torch.int32)
        after = chain.is_trigger(tokens, data.triggers)[..., None].int()
        followed.scatter_(-1, following[..., None], after)
        bag = followed.cumsum(dim=1, dtype=torch.int32)[where] - followed[where]
        return Queries(
            where,
            tokens[where].numpy(),
            bag.numpy().astype(np.int64),
            data.triggers[where[0]].numpy(),
            following[where].numpy(),
        )

    def _slot(self, seen: Queries) -> NDArray[np.int64]:
        return self._slot_of[seen.token]

    def _fitted(self, reference: Batch) -> Scores:
        """How often each token followed each trigger at copyable positions: the best that a table can know."""
        counts = np.zeros_like(self._row)
        chain, tokens = self._chain, reference.tokens
        where = (chain.occurrence(tokens, reference.triggers) >= 2).nonzero(as_tuple=True)
        np.add.at(counts, (self._slot_of[tokens[where].numpy()], reference.next_tokens[where].numpy()), 1)
        return counts

    def _together(self, seen: Queries) -> Scores:
        possible = self._possible
        weight = self._occurrence[possible] / self._occurrence[possible].sum()
        world = _bag.BagWorld(possible, weight, self._prior, self._pi[possible], self._chain.noise)
        return _bag.next_law(world, seen.token, seen.bag)

    def _one_at_a_time(self, seen: Queries) -> Scores:
        """Bayes' rule where only this trigger's target is unknown, and the others' successors come as on average."""
        slot, eps = self._slot(seen), self._chain.noise
        weight = seen.triggers[:, self._possible] * self._occurrence[self._possible]
        weight /= weight.sum(axis=1, keepdims=True)
        own = weight[np.arange(len(slot)), slot][:, None]
        others = np.maximum(weight @ self._row - own * self._row[slot], 1e-12)
        noise = own * eps * self._pi[seen.token]
        prior = self._prior[slot]
        with np.errstate(all="ignore"):
            gain = seen.bag * np.log1p(own * (1 - eps) / (others + noise))
            absent = (seen.bag * np.log(others / (others + noise))).sum(axis=1, keepdims=True)
            log_target = np.log(prior) + gain + np.log(np.maximum(-np.expm1(absent - gain), 0.0))
            top = log_target.max(axis=1, keepdims=True)
            target = np.exp(log_target - np.where(np.isfinite(top), top, 0.0))
        target /= np.maximum(target.sum(axis=1, keepdims=True), 1e-300)
        return (1 - eps) * target + eps * self._pi[seen.token]


def _hits(scores: Scores, seen: Queries) -> NDArray[np.float64]:
    """Chance of being right [query] where equals, to 9 digits, are picked from at random."""
    best = scores >= scores.max(axis=1, keepdims=True) * (1 - 1e-9)
    return best[np.arange(len(best)), seen.answer] / best.sum(axis=1)
