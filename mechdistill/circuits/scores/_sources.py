"""Which sources a query has: the parts that attention scores are made of."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechdistill.circuits._probes import Probe
from mechdistill.circuits.scores._against import Sources


def at_offset(queries: Bool[Tensor, "batch query"], offset: int) -> Sources:
    """For each of the queries, the one source `offset` positions before it."""
    batch, length = queries.shape
    sources = torch.zeros(batch, length, length, dtype=torch.bool)
    q = torch.arange(offset, length)
    sources[:, q, q - offset] = queries[:, offset:]
    return sources


def second_block(probe: Probe) -> Bool[Tensor, "batch pos"]:
    """What follows the first of repeated blocks."""
    return (torch.arange(probe.tokens.shape[1]) > probe.length).expand(probe.tokens.shape)


def after_other_triggers(probe: Probe, sources: Sources) -> Sources:
    """Where queries that have sources look if they follow another trigger of the first block."""
    after = after_trigger(probe) & ~second_block(probe)
    return sources.any(dim=-1, keepdim=True) & after[:, None] & ~sources


def from_two(probe: Probe) -> Bool[Tensor, "batch pos"]:
    """Positions that have two before them."""
    return (torch.arange(probe.tokens.shape[1]) >= 2).expand(probe.tokens.shape)


def after_trigger(probe: Probe) -> Bool[Tensor, "batch pos"]:
    """Positions from 2 on that a trigger precedes."""
    after = torch.cat((torch.zeros_like(probe.is_trigger[:, :1]), probe.is_trigger[:, :-1]), dim=1)
    return after & from_two(probe)


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
