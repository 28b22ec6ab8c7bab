"""What a run minimises: divergences and how they mix with the hard label."""

from mechdistill.objective._divergences import DIVERGENCES, cross_entropy, forward_kl
from mechdistill.objective._mixture import Losses, mixture, soften

__all__ = ["DIVERGENCES", "Losses", "cross_entropy", "forward_kl", "mixture", "soften"]
