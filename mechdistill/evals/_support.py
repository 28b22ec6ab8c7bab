"""Which continuations are valid: what the oracle deems possible, without its most improbable one per cent."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SUPPORT_MASS = 0.99
"""Of the oracle's law, that its support carries: a row may have no zero, yet all but never go where it could."""
_TIE = 1e-5  # relative: float32 laws of equal tokens


def on_support(
    log_probs: Float[Tensor, "batch pos vocab"], chosen: Int[Tensor, "batch pos"]
) -> Bool[Tensor, "batch pos"]:
    """Whether a token is among the likeliest that together carry 99 % of a law; tokens as likely as the last one too.

    log_probs is the oracle's log-law [batch, pos, vocab] and `chosen` what came there: true where the tokens more
    likely than it carry less than 99 %. So an excluded token is never on support, all of a uniform support is, and
    the oracle's own draws are there with probability .99 to 1; a uniform draw with the support's size over vocab.
    Source: ours, after the nucleus of Holtzman et al. 2020.
    """
    probs = log_probs.exp()
    p = probs.gather(-1, chosen[..., None])
    more_likely = torch.where(probs > p * (1 + _TIE), probs, 0.0).sum(dim=-1)
    return (more_likely < SUPPORT_MASS) & (p[..., 0] > 0)
