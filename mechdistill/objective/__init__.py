"""What a run minimises: divergences and how they mix with the hard label."""

from mechdistill.objective._mixture import Losses, Weights, mixture, per_term
from mechdistill.objective._objective import Asked, Objective, Part, Unrouted
from mechdistill.objective._own import own_divergence, own_signal
from mechdistill.objective._routing import Seen, route
from mechdistill.objective._rules import matched_smoothing, optimal_alpha
from mechdistill.objective._table import Table

__all__ = [
    "Asked",
    "Losses",
    "Objective",
    "Part",
    "Seen",
    "Table",
    "Unrouted",
    "Weights",
    "matched_smoothing",
    "mixture",
    "optimal_alpha",
    "own_divergence",
    "own_signal",
    "per_term",
    "route",
]
