"""A query and the tokens before it, crossed: what is left of attention when only *which* trigger is asked for changes.

A head may attend to what followed a trigger because of where it stands, because it follows any trigger, because of
what the query is, or because it follows the trigger that the query holds. Only the last is matching. In four versions
of one sequence everything else occurs equally often with and without it.
"""

from collections import Counter
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechdistill.circuits._probes import Probe

# (two triggers swapped before the query, the query holds the other one)
_VERSIONS = ((False, False), (True, True), (True, False), (False, True))


class Crossed(NamedTuple):
    """Versions of sequences, of each of which one query is looked at."""

    tokens: Int[Tensor, "version sequence pos"]
    matches: Bool[Tensor, " version"]
    """Whether the sources follow the trigger that the query holds."""
    sequence: Int[Tensor, " sequence"]
    """Which of the probe's sequences they are."""
    query: Int[Tensor, " sequence"]
    sources: Bool[Tensor, "sequence pos"]
    """What followed the query's trigger in the sequence as it was; the same positions in every version."""


def crossed(probe: Probe, sources: Bool[Tensor, "batch query source"], *, one_trigger: bool) -> Crossed | None:
    """The last query of each sequence that has sources and, before it, another trigger as often: that is its partner.

    As often, so that a head which counts (to what followed any trigger the m-th time, at a query's m-th) is caught too.
    Version 1 is the sequence as it is. In 2 trigger and partner have changed places before the query, and the query
    holds the partner: it matches too. In 3 only the first has happened and in 4 only the second: the sources follow
    another trigger than the query holds. Whatever depends on the query alone, on positions or on what the sources
    follow, and on any two of these but the match, is the same in 1 and 2 together as in 3 and 4 together.

    With `one_trigger` there is no other to confuse it with: the partner is an ordinary token, and the query stays (1
    and 3). None where no sequence has such a query.
    """
    chosen = [
        (b, *place) for b in range(len(probe.tokens)) if (place := _place(probe, sources, b, one_trigger)) is not None
    ]
    if not chosen:
        return None
    sequence, query, partner = torch.tensor(chosen).unbind(dim=1)
    tokens = probe.tokens[sequence]
    own = tokens.gather(1, query[:, None])
    other = partner[:, None]
    before = torch.arange(tokens.shape[1]) < query[:, None]
    swapped = torch.where(before & (tokens == own), other, torch.where(before & (tokens == other), own, tokens))
    versions = _VERSIONS if not one_trigger else _VERSIONS[::2]
    return Crossed(
        torch.stack(
            [
                (swapped if swap else tokens).scatter(1, query[:, None], other if ask_other else own)
                for swap, ask_other in versions
            ]
        ),
        torch.tensor([swap == ask_other for swap, ask_other in versions]),
        sequence,
        query,
        sources[sequence, query],
    )


def _place(
    probe: Probe, sources: Bool[Tensor, "batch query source"], b: int, one_trigger: bool
) -> tuple[int, int] | None:
    """(query, partner) of a sequence."""
    tokens, is_trigger = probe.tokens[b], probe.is_trigger[b]
    for q in reversed(sources[b].any(dim=1).nonzero().flatten().tolist()):
        # what stands at a source is no partner, so that sources hold the same in every version
        held = set(tokens[sources[b, q]].tolist()) | {int(tokens[q])}
        may = is_trigger[:q] != one_trigger
        times = Counter(tokens[:q].tolist())
        partners = [
            token
            for token in tokens[:q][may].tolist()
            if token not in held and (one_trigger or times[token] == times[int(tokens[q])])
        ]
        if partners:
            return q, partners[-1]
    return None
