"""What is done to laws, given as log-probabilities: softening one, and mixing two."""

import torch
from jaxtyping import Float
from torch import Tensor


def soften(log_probs: Float[Tensor, "batch pos vocab"], temperature: float) -> Float[Tensor, "batch pos vocab"]:
    """softmax(log p / T), renormalised; T = 1 changes nothing, and an excluded token (-inf) stays excluded."""
    return log_probs if temperature == 1 else (log_probs / temperature).log_softmax(dim=-1)


def mixed(
    one: Float[Tensor, "batch pos vocab"], other: Float[Tensor, "batch pos vocab"], share: Float[Tensor, "..."]
) -> Float[Tensor, "batch pos vocab"]:
    """log((1 - share)·e^one + share·e^other), exact where the share is 0 or 1."""
    both = torch.logaddexp(one + (1 - share).log(), other + share.log())
    return torch.where(share == 0, one, torch.where(share == 1, other, both))
