"""Prefix matching over all earlier repeats: Olsson et al.'s score, in four copies of a block."""

import torch
from jaxtyping import Bool
from torch import Tensor

from mechdistill.circuits._probes import Probe
from mechdistill.circuits.scores._against import Sources, at, control
from mechdistill.circuits.scores._score import attention_score
from mechdistill.circuits.scores._sources import after_trigger


def _earlier_repeats(probe: Probe, queries: Bool[Tensor, "batch query"]) -> Sources:
    """For each of the queries, every position up to it that an earlier occurrence of its token precedes."""
    same = probe.tokens[:, :, None] == probe.tokens[:, None, :]
    preceded = torch.cat((torch.zeros_like(same[..., :1]), same[..., :-1]), dim=-1)
    return (preceded & queries[..., None]).tril()


def _after_other_triggers_of_earlier_blocks(probe: Probe, sources: Sources) -> Sources:
    block = (torch.arange(probe.tokens.shape[1]) - 1) // probe.length
    of_previous = torch.cat((block[:1], block[:-1]))
    after = after_trigger(probe)[:, None] & (of_previous < block[:, None])
    return sources.any(dim=-1, keepdim=True) & after & ~sources


def _after_triggers_as_often(probe: Probe, sources: Sources) -> Sources:
    """Those of them whose trigger has come as often as the query's: those that stand behind it in the block."""
    offset = (torch.arange(probe.tokens.shape[1]) - 1) % probe.length
    of_previous = torch.cat((offset[:1], offset[:-1]))
    return _after_other_triggers_of_earlier_blocks(probe, sources) & (of_previous > offset[:, None])


@attention_score(
    on="fourfold",
    nulls=(control, at(_after_other_triggers_of_earlier_blocks), at(_after_triggers_as_often)),
)
def prefix_matching(probe: Probe) -> Sources:
    """Σ A[q, s] over all s <= q that an earlier occurrence of token q precedes, at queries that hold a trigger.

    In four copies of a block: one source in the second, three in the fourth. Range [0, 1]; chance: uniform causal
    attention, (number of sources)/(q+1) averaged over the queries. Null, the largest of three: the last copy after
    other blocks; what followed the other triggers in earlier copies; and those of these that have come as often.
    Where the sandbox has no fixed triggers, all queries count. Source: Olsson et al. 2022; the split by query is ours.
    """
    return _earlier_repeats(probe, probe.is_trigger if probe.is_trigger.any() else torch.ones_like(probe.is_trigger))


@attention_score(on="fourfold", label="prefix matching, any token")
def prefix_matching_general(probe: Probe) -> Sources:
    """Σ A[q, s] over all s <= q that an earlier occurrence of token q precedes, at queries that hold no trigger.

    Range [0, 1]; chance: uniform causal attention, (number of sources)/(q+1) averaged over the queries. Null: the last
    copy after other blocks. There are none where the sandbox has no fixed triggers. Source: Olsson et al. 2022.
    """
    return _earlier_repeats(probe, ~probe.is_trigger & probe.is_trigger.any())
