"""Arithmetic of laws, as log-probabilities: mixing, softening, entropies, divergences. Knows no world and no run."""

from mechdistill.laws._divergences import (
    cross_entropy,
    entropy,
    forward_kl,
    jsd,
    normalised_jsd,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from mechdistill.laws._mixing import mixed, soften, uniform_like

__all__ = [
    "cross_entropy",
    "entropy",
    "forward_kl",
    "jsd",
    "mixed",
    "normalised_jsd",
    "reverse_kl",
    "soft_cross_entropy",
    "soften",
    "total_variation",
    "uniform_like",
]
