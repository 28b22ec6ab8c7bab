"""Pairs of sequences that differ only in what can be copied: the clean and the corrupt run of path patching."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechdistill.circuits._crossed import crossed
from mechdistill.circuits._probes import Probe
from mechdistill.circuits.scores import lookup_sources


class Pairs(NamedTuple):
    """Sequences of the world, and the same with a trigger and its partner exchanged before one query."""

    clean: Int[Tensor, "pair pos"]
    corrupt: Int[Tensor, "pair pos"]
    query: Int[Tensor, " pair"]
    right: Int[Tensor, " pair"]
    """What followed the query's trigger last in the clean sequence."""
    wrong: Int[Tensor, " pair"]
    """What followed it last in the corrupt one."""

    def logit_difference(self, logits: Tensor) -> Tensor:
        """logit(right) - logit(wrong) at the query of each pair, [pair]."""
        at = logits[torch.arange(len(self.query)), self.query]
        return (at.gather(1, self.right[:, None]) - at.gather(1, self.wrong[:, None]))[:, 0]


def minimal_pairs(probe: Probe) -> Pairs | None:
    """The first and the third version of `circuits.crossed`: the query holds the same, and so does every source.

    Before the query, the trigger that it holds and another that came as often have changed places, so that what is to
    be copied is the other's target. Which tokens there are, where each target stands and how often which trigger came
    are as they were. Sequences in which both targets are the same are left out. None where there are none left.
    """
    if probe.occurrence is None or not probe.is_trigger.any():
        return None
    one_trigger = len(probe.tokens[probe.is_trigger].unique()) == 1
    cells = crossed(probe, lookup_sources(probe.tokens, probe.occurrence), one_trigger=one_trigger)
    if cells is None:
        return None
    clean, corrupt = cells.tokens[0], cells.tokens[1 if one_trigger else 2]
    (right, found), (wrong, also) = (_followed(tokens, cells.query) for tokens in (clean, corrupt))
    use = found & also & (right != wrong)
    return Pairs(clean[use], corrupt[use], cells.query[use], right[use], wrong[use]) if use.any() else None


def _followed(
    tokens: Int[Tensor, "pair pos"], query: Int[Tensor, " pair"]
) -> tuple[Int[Tensor, " pair"], Bool[Tensor, " pair"]]:
    """The token after the last earlier occurrence of what the query holds, itself before the query; and whether."""
    pos = torch.arange(tokens.shape[1])
    earlier = (tokens == tokens.gather(1, query[:, None])) & (pos + 1 < query[:, None])
    last = (earlier * (pos + 1)).amax(dim=1)
    return tokens.gather(1, last[:, None])[:, 0], earlier.any(dim=1)
