"""The scores that there are; this file has those of attention, its neighbours those of weights and of outputs.

An attention score is the mean, over the queries it names, of the attention that a head pays to the sources it names:
a function of a `Probe` under `@attention_score`. Any other, of weights say, is a function of (`HeadView`, `Probes`) to
a tensor by head, by head and earlier head, by layer, or of the whole model, under `@head_score`. To add one: the
function, and its place in `SCORES`.
"""

import torch

from mechdistill.circuits._probes import Probe, Probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._against import Sources, at, attention_to, control, with_another_trigger
from mechdistill.circuits.scores._composition import k_composition, q_composition, v_composition
from mechdistill.circuits.scores._copying import copying, copying_logits
from mechdistill.circuits.scores._outputs import direct_logit_attribution, icl_score, late_minus_early, logit_lens
from mechdistill.circuits.scores._prefix_matching import prefix_matching, prefix_matching_general
from mechdistill.circuits.scores._recall import recall_output, recall_previous_position, recall_trigger
from mechdistill.circuits.scores._score import Score, Scored, attention_score, head_score
from mechdistill.circuits.scores._sources import (
    after_other_triggers,
    after_trigger,
    at_offset,
    from_two,
    lookup_sources,
    second_block,
)
from mechdistill.registry import Registry


def _after_triggers_to_come(probe: Probe, sources: Sources) -> Sources:
    """Those of them that, like the query's trigger, have been seen once: a head that counts cannot tell them apart."""
    return after_other_triggers(probe, sources) & (sources.cumsum(dim=-1) > 0)


@attention_score(on="repeated", nulls=(control, at(after_other_triggers), at(_after_triggers_to_come)))
def induction(probe: Probe) -> Sources:
    """A[q, q-(L-1)] in the second copy of a block of length L, at queries that hold a trigger.

    The head looks at what followed the current token last time. Range [0, 1]; chance 1/(q+1) averaged over the
    queries. Null, the largest of three: the same queries and sources with another first block; what followed the other
    triggers in the first block; and those of these that have not come again yet. Where the sandbox has no fixed
    triggers, all queries count. Source: Olsson et al. 2022; the split by query is ours, since heads trained on fixed
    triggers fire at triggers only.
    """
    queries = second_block(probe)
    return at_offset(queries & probe.is_trigger if probe.is_trigger.any() else queries, probe.length - 1)


@attention_score(on="repeated", label="induction, any token")
def induction_general(probe: Probe) -> Sources:
    """A[q, q-(L-1)] in the second copy of a block of length L, at queries that hold no trigger.

    A head that scores here is an induction head for any token. Range [0, 1]; chance 1/(q+1) averaged over the
    queries. Null: the same queries and sources with another first block. There are none where the sandbox has no fixed
    triggers: `induction` is then about any token. Source: Olsson et al. 2022.
    """
    return at_offset(second_block(probe) & ~probe.is_trigger & probe.is_trigger.any(), probe.length - 1)


@attention_score(on="repeated")
def duplicate_token(probe: Probe) -> Sources:
    """A[q, q-L] in the second copy of a block of length L: attention to the earlier copy of the same token.

    Range [0, 1]; chance 1/(q+1) averaged over the queries. Null: the same queries and sources with another first
    block. Source: Wang et al. 2022 (IOI).
    """
    return at_offset(second_block(probe), probe.length)


@head_score(label="induction strength", unit="attention", low=-1.0, chance="0: uniform causal attention")
def induction_strength(view: HeadView, probes: Probes) -> Scored:
    """A[q, q-(L-1)] less the mean of A[q, s] over what followed the other triggers in the first copy of a block.

    At queries of the second copy that hold a trigger: whether the head tells the right successor from the wrong ones,
    not only where successors are. Range [-1, 1]; chance 0. Null: the same with another first block. Where the sandbox
    has fewer than two fixed triggers, the wrong ones are all other positions of the first copy. Source: Singh et al.
    2024.
    """
    probe = probes.repeated
    right = at_offset(second_block(probe) & (probe.is_trigger | ~probe.is_trigger.any()), probe.length - 1)
    wrong = after_other_triggers(probe, right)
    if not wrong.any():
        first = ~second_block(probe) & (torch.arange(probe.tokens.shape[1]) > 0)
        wrong = right.any(dim=-1, keepdim=True) & first[:, None] & ~right
    both = (right.any(dim=-1) & wrong.any(dim=-1))[..., None]
    weights = torch.where(both, right.float() - wrong / wrong.sum(dim=-1, keepdim=True).clamp(min=1), 0.0)
    value, null = (
        torch.stack([attention_to(pattern, weights) for pattern in view.patterns(tokens)])
        for tokens in (probe.tokens, probes.control.tokens)
    )
    return Scored(value.nanmean(dim=1), 0.0, null, value - null)


def _itself(_: Probe, sources: Sources) -> Sources:
    """For each query that has a source, its own position."""
    return at_offset(sources.any(dim=-1), 0)


def _two_back(_: Probe, sources: Sources) -> Sources:
    """For each query that has a source, the position two before it."""
    return at_offset(sources.any(dim=-1), 2)


@attention_score(on="natural", nulls=(at(_itself), at(_two_back)))
def previous_token(probe: Probe) -> Sources:
    """A[q, q-1] on sequences of the world: attention to the token just before, q >= 2.

    Range [0, 1]; chance 1/(q+1) averaged over those q. Null, the larger of two: A[q, q] and A[q, q-2] at the same
    queries. Source: Olsson et al. 2022; their first query is left out here, as it has no position for the null.
    """
    return at_offset(from_two(probe), 1)


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
    return at_offset(after_trigger(probe), 1)


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


COMPOSITIONS = (q_composition, k_composition, v_composition)
OF_WEIGHTS = (
    *COMPOSITIONS,
    *(copying, copying_logits, recall_previous_position, recall_output, recall_trigger),
    *(direct_logit_attribution, logit_lens),
)
"""Those that take it that the law is norm(residual stream) W_U + b_U, and heads read norm(residual stream)."""
DIRECT_ATTRIBUTION, LOGIT_LENS = direct_logit_attribution, logit_lens
INDUCTION, TRIGGER_LOOKUP, PREVIOUS_AFTER_TRIGGER = induction, trigger_lookup, previous_token_after_trigger

SCORES: Registry[Score] = Registry(
    "head score",
    (
        induction,
        induction_general,
        induction_strength,
        prefix_matching,
        prefix_matching_general,
        duplicate_token,
        previous_token,
        previous_token_after_trigger,
        trigger_lookup,
        copying,
        copying_logits,
        recall_previous_position,
        recall_output,
        recall_trigger,
        q_composition,
        k_composition,
        v_composition,
        direct_logit_attribution,
        logit_lens,
        icl_score,
        late_minus_early,
    ),
)
"""By name; the order of tables and menus. A user's own: `md.attention_score`, `md.head_score`."""
