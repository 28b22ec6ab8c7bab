"""The head scores that there are.

An attention score is the mean, over the queries it names, of the attention that a head pays to the sources it names:
a function of a `Probe` under `@attention_score`. Any other, of weights say, is a function of (`HeadView`, `Probes`) to
a tensor by head, or by head and earlier head, under `@head_score`. To add one: the function, and its place in `SCORES`.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechdistill.circuits._probes import Probe
from mechdistill.circuits.scores._against import Sources, at, control, with_another_trigger
from mechdistill.circuits.scores._score import Score, attention_score
from mechdistill.registry import Registry


def _at_offset(queries: Bool[Tensor, "batch query"], offset: int) -> Sources:
    """For each of the queries, the one source `offset` positions before it."""
    batch, length = queries.shape
    sources = torch.zeros(batch, length, length, dtype=torch.bool)
    q = torch.arange(offset, length)
    sources[:, q, q - offset] = queries[:, offset:]
    return sources


def _second_block(probe: Probe) -> Bool[Tensor, "batch pos"]:
    return (torch.arange(probe.tokens.shape[1]) > probe.length).expand(probe.tokens.shape)


def _after_other_triggers(probe: Probe, sources: Sources) -> Sources:
    """Where queries that have sources look if they follow another trigger of the first block."""
    after = _after_trigger(probe) & ~_second_block(probe)
    return sources.any(dim=-1, keepdim=True) & after[:, None] & ~sources


def _after_triggers_to_come(probe: Probe, sources: Sources) -> Sources:
    """Those of them that, like the query's trigger, have been seen once: a head that counts cannot tell them apart."""
    return _after_other_triggers(probe, sources) & (sources.cumsum(dim=-1) > 0)


@attention_score(on="repeated", nulls=(control, at(_after_other_triggers), at(_after_triggers_to_come)))
def induction(probe: Probe) -> Sources:
    """A[q, q-(L-1)] in the second copy of a block of length L, at queries that hold a trigger.

    The head looks at what followed the current token last time. Range [0, 1]; chance 1/(q+1) averaged over the
    queries. Null, the largest of three: the same queries and sources with another first block; what followed the other
    triggers in the first block; and those of these that have not come again yet. Where the sandbox has no fixed
    triggers, all queries count. Source: Olsson et al. 2022; the split by query is ours, since heads trained on fixed
    triggers fire at triggers only.
    """
    queries = _second_block(probe)
    return _at_offset(queries & probe.is_trigger if probe.is_trigger.any() else queries, probe.length - 1)


@attention_score(on="repeated", label="induction, any token")
def induction_general(probe: Probe) -> Sources:
    """A[q, q-(L-1)] in the second copy of a block of length L, at queries that hold no trigger.

    A head that scores here is an induction head for any token. Range [0, 1]; chance 1/(q+1) averaged over the
    queries. Null: the same queries and sources with another first block. There are none where the sandbox has no fixed
    triggers: `induction` is then about any token. Source: Olsson et al. 2022.
    """
    return _at_offset(_second_block(probe) & ~probe.is_trigger & probe.is_trigger.any(), probe.length - 1)


@attention_score(on="repeated")
def duplicate_token(probe: Probe) -> Sources:
    """A[q, q-L] in the second copy of a block of length L: attention to the earlier copy of the same token.

    Range [0, 1]; chance 1/(q+1) averaged over the queries. Null: the same queries and sources with another first
    block. Source: Wang et al. 2022 (IOI).
    """
    return _at_offset(_second_block(probe), probe.length)


def _itself(_: Probe, sources: Sources) -> Sources:
    """For each query that has a source, its own position."""
    return _at_offset(sources.any(dim=-1), 0)


def _two_back(_: Probe, sources: Sources) -> Sources:
    """For each query that has a source, the position two before it."""
    return _at_offset(sources.any(dim=-1), 2)


@attention_score(on="natural", nulls=(at(_itself), at(_two_back)))
def previous_token(probe: Probe) -> Sources:
    """A[q, q-1] on sequences of the world: attention to the token just before, q >= 2.

    Range [0, 1]; chance 1/(q+1) averaged over those q. Null, the larger of two: A[q, q] and A[q, q-2] at the same
    queries. Source: Olsson et al. 2022; their first query is left out here, as it has no position for the null.
    """
    return _at_offset(_from_two(probe), 1)


def _from_two(probe: Probe) -> Bool[Tensor, "batch pos"]:
    return (torch.arange(probe.tokens.shape[1]) >= 2).expand(probe.tokens.shape)


def _at_earlier_triggers(probe: Probe, sources: Sources) -> Sources:
    """For each query that has a source, the triggers before that."""
    before = torch.ones(sources.shape[1:], dtype=torch.bool).tril(-2)
    return sources.any(dim=-1, keepdim=True) & probe.is_trigger[:, None] & before


@attention_score(on="natural", nulls=(at(_itself), at(_two_back), at(_at_earlier_triggers)))
def previous_token_after_trigger(probe: Probe) -> Sources:
    """A[q, q-1] on sequences of the world where q-1 holds a trigger, q >= 2: the first half of the copy circuit.

    Range [0, 1]; chance 1/(q+1) averaged over those q. Null, the largest of three at the same queries: A[q, q],
    A[q, q-2], and the mean over triggers before q-1. A head that looks for the last trigger, wherever that is, does
    this part of the circuit's work too, and scores here. Source: Bietti et al. 2023.
    """
    return _at_offset(_after_trigger(probe), 1)


def _after_trigger(probe: Probe) -> Bool[Tensor, "batch pos"]:
    after = torch.cat((torch.zeros_like(probe.is_trigger[:, :1]), probe.is_trigger[:, :-1]), dim=1)
    return after & _from_two(probe)


@attention_score(on="natural", nulls=(with_another_trigger,))
def trigger_lookup(probe: Probe) -> Sources:
    """Attention from occurrence >= 2 of a trigger to the positions right after its earlier occurrences.

    On sequences of the world: the second half of the copy circuit, where it is used; the score that ranks heads. Range
    [0, 1]; chance (number of sources)/(q+1) averaged over the queries. Null: what followed another trigger, at the same
    positions of the same sequences with two triggers exchanged (`circuits.crossed`), so that what follows any trigger,
    or looks at positions, scores its own null; one query a sequence. A query directly after its own earlier occurrence
    (a self-loop) is no source. Sources: Bietti et al. 2023; Singh et al. 2024 (induction strength: the right successor
    less those of the other triggers).
    """
    assert probe.occurrence is not None
    return lookup_sources(probe.tokens, probe.occurrence)


def lookup_sources(tokens: Int[Tensor, "batch pos"], occurrence: Int[Tensor, "batch pos"]) -> Sources:
    """The positions right after earlier occurrences of the trigger that a query holds, where that is >= its second.

    A query that itself directly follows its earlier occurrence (t t) is no source for itself: that would be a
    self-loop, not copying.
    """
    mask = torch.zeros(*tokens.shape, tokens.shape[1], dtype=torch.bool)
    batch, pos = (occurrence >= 2).nonzero(as_tuple=True)
    before = torch.arange(tokens.shape[1]) < pos[:, None]
    query, earlier = ((tokens[batch] == tokens[batch, pos][:, None]) & before).nonzero(as_tuple=True)
    proper = earlier + 1 < pos[query]
    mask[batch[query[proper]], pos[query[proper]], earlier[proper] + 1] = True
    return mask


INDUCTION, TRIGGER_LOOKUP, PREVIOUS_AFTER_TRIGGER = induction, trigger_lookup, previous_token_after_trigger

SCORES: Registry[Score] = Registry(
    "head score",
    (
        induction,
        induction_general,
        duplicate_token,
        previous_token,
        previous_token_after_trigger,
        trigger_lookup,
    ),
)
"""By name; the order of tables and menus. A user's own: `md.attention_score`, `md.head_score`."""
