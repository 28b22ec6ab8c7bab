"""What is done to laws, given as log-probabilities: softening one, mixing two, and the one to mix in."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def soften(log_probs: Float[Tensor, "batch pos vocab"], temperature: float) -> Float[Tensor, "batch pos vocab"]:
    """softmax(log p / T), renormalised; T = 1 gives the argument itself, and an excluded token (-inf) stays excluded.

    Between the likeliest tokens alone (T -> 0) and the uniform law over the allowed ones (T -> inf). It keeps the
    dtype and has a gradient.
    """
    if temperature == 1:
        return log_probs
    best = log_probs.detach().amax(dim=-1, keepdim=True)  # first, so that a small T does not magnify its rounding
    return ((log_probs - best) / temperature).log_softmax(dim=-1)


def mixed(
    one: Float[Tensor, "batch pos vocab"], other: Float[Tensor, "batch pos vocab"], share: Float[Tensor, "..."]
) -> Float[Tensor, "batch pos vocab"]:
    """log((1 - share)·e^one + share·e^other), exact where the share is 0 or 1; -inf where it keeps nothing of a token.

    `share` is in [0, 1] and broadcasts against the laws; where it is nan so is the result.
    """
    both = torch.logaddexp(one + (-share).log1p(), other + share.log())
    return torch.where(share == 0, one, torch.where(share == 1, other, both))


def uniform_like(log_probs: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch pos vocab"]:
    """-ln(vocab) everywhere, in the shape and dtype of another law."""
    return torch.full_like(log_probs, -math.log(log_probs.shape[-1]))
