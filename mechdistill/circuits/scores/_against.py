"""What a score is held against: the attention that the same queries pay where the sources mean nothing.

A null that an impostor passes is worth nothing, so each score has those that its impostors fail. Of several nulls the
one that a sequence does worst by counts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechdistill.circuits._crossed import crossed
from mechdistill.circuits._probes import Probe, Probes
from mechdistill.circuits._view import HeadView

_SPARSE = 12

Sources = Bool[Tensor, "batch query source"]
Find = Callable[[Probe], Sources]
Decoys = Callable[[Probe, Sources], Sources]
BySequence = Float[Tensor, "layer sequence head"]


class Against(NamedTuple):
    """By sequence; nan for one that has no such null."""

    null: BySequence
    excess: BySequence
    """The score over the same queries, less the null."""


Null = Callable[[HeadView, Probe, Probes, Sources], "Against | None"]
"""None where the sequences have no such null at all."""


def control(view: HeadView, probe: Probe, probes: Probes, sources: Sources) -> Against | None:
    """The last of repeated blocks, at the same positions, after other blocks. Fails what looks at positions."""
    del probes
    if probe.control is None:
        return None
    length = sources.shape[1]
    last = sources & (torch.arange(length) >= length - probe.length)[:, None]
    value = [attention_to(pattern, last) for pattern in view.patterns(probe.tokens)]
    null = [attention_to(pattern, last) for pattern in view.patterns(probe.control)]
    return Against(torch.stack(null), torch.stack(value) - torch.stack(null))


def at(decoys: Decoys) -> Null:
    """The same queries, looking at decoys: the mean over those that a query has, times the number of its sources.

    Queries without decoys are left out.
    """

    def null(view: HeadView, probe: Probe, probes: Probes, sources: Sources) -> Against | None:
        del probes
        false = decoys(probe, sources)
        both = (false.any(dim=-1) & sources.any(dim=-1))[..., None]
        if not both.any():
            return None
        share = sources.sum(dim=-1, keepdim=True) / false.sum(dim=-1, keepdim=True).clamp(min=1)
        weights = torch.where(both, false * share, 0.0)
        patterns = view.patterns(probe.tokens)
        paid = torch.stack([attention_to(pattern, weights) for pattern in patterns])
        value = torch.stack([attention_to(pattern, sources & both) for pattern in patterns])
        return Against(paid, value - paid)

    return null


def with_another_trigger(view: HeadView, probe: Probe, probes: Probes, sources: Sources) -> Against | None:
    """The same positions of the same sequences, after another trigger than the query holds; see `crossed`."""
    del probes
    one_trigger = len(probe.tokens[probe.is_trigger].unique()) == 1
    cells = crossed(probe, sources, one_trigger=one_trigger)
    if cells is None:
        return None
    rows = torch.stack(view.attention_from(cells.tokens.flatten(0, 1), cells.query.repeat(len(cells.tokens))))
    rows = rows.unflatten(1, cells.tokens.shape[:2])  # [layer, cell, sequence, head, source]
    paid = (rows * cells.sources[:, None].to(rows.dtype)).sum(dim=-1)
    matching, other = paid[:, cells.matches].mean(dim=1), paid[:, ~cells.matches].mean(dim=1)
    everywhere = torch.full((len(rows), len(probe.tokens), paid.shape[-1]), torch.nan)
    null, excess = everywhere.clone(), everywhere.clone()
    null[:, cells.sequence], excess[:, cells.sequence] = other, matching - other
    return Against(null, excess)


def worst(nulls: Sequence[Null], view: HeadView, probe: Probe, probes: Probes, sources: Sources) -> Against | None:
    """The largest null and the smallest excess of each sequence that has all of them; None without any."""
    found = [against for null in nulls if (against := null(view, probe, probes, sources)) is not None]
    if not found:
        return None
    # maximum and minimum, not max and min of pairs: nan in any is nan
    null = torch.stack([against.null for against in found]).amax(dim=0)
    excess = torch.stack([against.excess for against in found]).amin(dim=0)
    complete = ~(null.isnan() | excess.isnan()).any(dim=2).any(dim=0)
    return Against(null[:, complete], excess[:, complete])


def attention_to(
    pattern: Float[Tensor, "batch head query source"],
    sources: Bool[Tensor, "batch query source"] | Float[Tensor, "batch query source"],
) -> Float[Tensor, "batch head"]:
    """Mean over the queries that have sources of the attention paid to them: the score of every head.

    score[b, h] = mean over q with sources of Σ_s A[b, h, q, s]·sources[b, q, s], where sources are 0 or 1, or weights.
    Range [0, 1] where they are 0 or 1; nan for a sequence in which no query has a source.
    """
    batch, query, source = sources.nonzero(as_tuple=True)
    if len(batch) * _SPARSE < sources.numel():  # most scores name a source a query: the rest is never looked at
        weights = sources[batch, query, source].to(pattern.dtype)
        found = pattern[batch, :, query, source] * weights[:, None]
        paid = pattern.new_zeros(pattern.shape[:2]).index_add(0, batch, found)
        place = batch * sources.shape[1] + query  # sorted
        is_new = torch.cat((torch.ones_like(place[:1]), (place[1:] != place[:-1]).long()))
        queries = torch.zeros(len(pattern), dtype=torch.long).index_add(0, batch, is_new)[:, None]
    else:
        queries = (sources != 0).any(dim=-1).sum(dim=-1, keepdim=True)
        paid = torch.einsum("bhqs,bqs->bh", pattern, sources.to(pattern.dtype))
    return paid / queries
