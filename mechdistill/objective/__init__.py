"""What a run minimises: divergences and how they mix with the hard label."""

from mechdistill.objective._divergences import (
    DIVERGENCES,
    cross_entropy,
    entropy,
    forward_kl,
    jsd,
    normalised_jsd,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from mechdistill.objective._mixture import Losses, Weights, mixture
from mechdistill.objective._objective import Asked, Objective, matched_smoothing, optimal_alpha
from mechdistill.objective._routing import SIGNALS, Seen, route

__all__ = [
    "DIVERGENCES",
    "SIGNALS",
    "Asked",
    "Losses",
    "Objective",
    "Seen",
    "Weights",
    "cross_entropy",
    "entropy",
    "forward_kl",
    "jsd",
    "matched_smoothing",
    "mixture",
    "normalised_jsd",
    "optimal_alpha",
    "reverse_kl",
    "route",
    "soft_cross_entropy",
    "total_variation",
]
