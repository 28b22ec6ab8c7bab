"""Whether a head does what a score says by more than luck, in as many sequences as there are."""

import torch
from jaxtyping import Float
from scipy.special import stdtr
from torch import Tensor

MARGIN = 0.1
"""Of its attention: what a head must pay to its sources beyond the null to be said to do it at all."""

LEVEL = 0.01
"""How often, at most, a network in which no head does it has any head singled out by a score."""


def p_beyond(excess: Float[Tensor, "layer sequence head"]) -> Float[Tensor, "layer head"]:
    """One-sided p of a mean excess of at most .1, over sequences; times the number of heads, at most 1 (Bonferroni).

    The t test of each head: t = (mean - .1) / (sd/√n) with n - 1 degrees of freedom. 1 for fewer than two sequences.
    At the margin it lies below a in at most about a share a of networks; without any excess, far more rarely.
    """
    layers, n, heads = excess.shape
    if n < 2:
        return torch.ones(layers, heads, dtype=torch.float64)
    excess = excess.double()
    error = excess.std(dim=1).clamp(min=1e-6) / n**0.5  # float32; heads made by hand have no spread
    t = (excess.mean(dim=1) - MARGIN) / error
    p = torch.from_numpy(stdtr(n - 1, -t.numpy()))
    return (p * layers * heads).clamp(max=1.0)
