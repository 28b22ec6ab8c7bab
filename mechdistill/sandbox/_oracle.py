"""The Bayes-optimal law of the next token given the whole prefix, when triggers and targets are hidden.

In each sequence token i is a trigger with probability rho_i (1 or 0 where triggers are fixed) and has then one target
c ~ prior_i. After a trigger comes c with probability 1-eps, otherwise a draw from the ordinary row pi_i; after any
other token always such a draw. So with successors s_1..s_m of the earlier occurrences of i,

    P(i is a trigger with target c | prefix)  ∝  rho_i · prior_i(c) · prod_j [(1-eps)·1(s_j = c) + eps·pi_i(s_j)]
    P(i is no trigger | prefix)               ∝  (1-rho_i) · prod_j pi_i(s_j)
    P(next | prefix) = P(no trigger)·pi_i(next) + Σ_c P(c)·[(1-eps)·1(c = next) + eps·pi_i(next)]

Without noise, after m equal successors c, P(trigger) = rho·mu_c / (rho·mu_c + (1-rho)·pi_c^m). Divided by the common
factor prod_j pi_i(s_j), every s_j multiplies the candidate c = s_j by (1-eps)/pi_i(s_j) + eps, any other by eps.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_CERTAIN = 1e6  # stands for infinite log odds, which would give inf - inf; exp(-1e6) is exactly 0


class TriggerRule(NamedTuple):
    """What the oracle knows before it has seen a sequence, of the tokens that can be triggers."""

    slot_of: Int[Tensor, " vocab"]  # where a token stands below, -1 if it is never a trigger
    log_rate: Float[Tensor, " trigger"]  # log rho
    log_absence: Float[Tensor, " trigger"]  # log (1 - rho)
    log_prior: Float[Tensor, "trigger vocab"]  # log prior of the target, -inf where it cannot be
    pi: Float[Tensor, "trigger vocab"]  # ordinary rows, float64
    noise: float  # eps


def same_token_before(
    tokens: Int[Tensor, "batch pos"], batch: Int[Tensor, " query"], pos: Int[Tensor, " query"]
) -> Bool[Tensor, "query pos"]:
    """For queries (batch, pos): where the token they hold occurred before."""
    before = torch.arange(tokens.shape[1], device=tokens.device) < pos[:, None]
    return (tokens[batch] == tokens[batch, pos][:, None]) & before


def trigger_log_law(
    rule: TriggerRule, tokens: Int[Tensor, "batch pos"], batch: Int[Tensor, " query"], pos: Int[Tensor, " query"]
) -> Float[Tensor, "query vocab"]:
    """The oracle's log-law of the successor at queries (batch, pos) whose token can be a trigger, in float64."""
    slot = rule.slot_of[tokens[batch, pos]]
    query, earlier = same_token_before(tokens, batch, pos).nonzero(as_tuple=True)
    successor = tokens[batch[query], earlier + 1]
    mismatch = math.log(rule.noise) if rule.noise > 0 else -_CERTAIN
    match = ((1 - rule.noise) / rule.pi[slot[query], successor] + rule.noise).log().clamp(max=_CERTAIN)
    seen = torch.bincount(query, minlength=len(pos))
    log_candidate = (rule.log_rate[slot] + mismatch * seen)[:, None] + rule.log_prior[slot]
    log_candidate = log_candidate.index_put((query, successor), match - mismatch, accumulate=True)
    posterior = torch.cat((log_candidate, rule.log_absence[slot][:, None]), dim=1).softmax(dim=-1)
    target, absent = posterior[:, :-1], posterior[:, -1:]
    ordinary = absent + rule.noise * (1 - absent)
    return ((1 - rule.noise) * target + ordinary * rule.pi[slot]).log()
