"""The Bayes-optimal law of the next token given the whole prefix, when triggers are fixed and targets hidden.

Trigger t has one target c per sequence, c ~ prior_t. After t comes c with probability 1-eps, otherwise a draw from
the ordinary row pi_t. So with successors s_1..s_m of the earlier occurrences of t,

    P(c | prefix)    ∝ prior_t(c) · prod_j [(1-eps)·1(s_j = c) + eps·pi_t(s_j)]
    P(next | prefix) = (1-eps)·P(c = next | prefix) + eps·pi_t(next)

Dividing the likelihood by the factor prod_j eps·pi_t(s_j), common to all c, each s_j adds the log odds
log(1 + (1-eps)/(eps·pi_t(s_j))) to the candidate c = s_j and nothing to the others. Without noise the odds are
infinite: one successor settles it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_CERTAIN = 1e9  # log odds that settle the target; exp(-1e9) is exactly 0


class TriggerRule(NamedTuple):
    """What the oracle knows about triggers before it has seen a sequence."""

    trigger_of: Int[Tensor, " vocab"]  # which trigger a token is, -1 for none
    log_prior: Float[Tensor, "trigger vocab"]  # log prior of the target, -inf where it cannot be
    pi: Float[Tensor, "trigger vocab"]  # ordinary rows of the triggers, float64
    noise: float  # probability that the rule does not hold at an occurrence


def same_trigger_before(
    tokens: Int[Tensor, "batch pos"], batch: Int[Tensor, " query"], pos: Int[Tensor, " query"]
) -> Bool[Tensor, "query pos"]:
    """For queries (batch, pos) that hold a trigger: where it occurred before."""
    before = torch.arange(tokens.shape[1], device=tokens.device) < pos[:, None]
    return (tokens[batch] == tokens[batch, pos][:, None]) & before


def trigger_log_law(
    rule: TriggerRule,
    tokens: Int[Tensor, "batch pos"],
    batch: Int[Tensor, " query"],
    pos: Int[Tensor, " query"],
) -> Float[Tensor, "query vocab"]:
    """The oracle's log-law of the successor at queries (batch, pos) that hold a trigger, in float64."""
    trigger = rule.trigger_of[tokens[batch, pos]]
    query, earlier = same_trigger_before(tokens, batch, pos).nonzero(as_tuple=True)
    successor = tokens[batch[query], earlier + 1]
    escape = rule.noise * rule.pi
    log_odds = torch.where(escape > 0, torch.log1p((1 - rule.noise) / escape), _CERTAIN)
    log_weight = rule.log_prior[trigger].index_put(
        (query, successor), log_odds[trigger[query], successor], accumulate=True
    )
    posterior = log_weight.softmax(dim=-1)
    return ((1 - rule.noise) * posterior + escape[trigger]).log()
