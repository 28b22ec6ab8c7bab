"""What stands in the place of a head's output when it is knocked out, as records that everything iterates.

To add one: a function of z below, and its `Ablation` in `ABLATIONS`. A user's own: `md.ablation`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.registry import Registry

Z = Float[Tensor, "batch pos head d_head"]  # of a layer's heads on the unablated model


@dataclass(frozen=True)
class Ablation:
    """A way of knocking heads out."""

    name: str
    label: str
    """For legends and the heads of columns."""
    replacement: Callable[[Z, torch.Generator], Z]
    """(z of a layer on the evaluation set, random numbers of its own) -> what its heads write instead."""
    colour: int = 0
    """Slot of the palette; shades of one arm of the figure."""
    mode: Literal["full"] = "full"
    """full: a head's whole output is replaced."""
    doc: str = ""


def mean(z: Z, _: torch.Generator) -> Z:
    """Mean ablation: the head writes its average over sequences and positions, whatever it attends to.

    The primary one: it leaves later layers on distribution. Source: Wang et al. 2022.
    """
    return z.mean(dim=(0, 1), keepdim=True).expand_as(z)


def zero(z: Z, _: torch.Generator) -> Z:
    """Zero ablation: the head writes nothing. Off-distribution, since the rest expects its average.

    Source: Olsson et al. 2022.
    """
    return torch.zeros_like(z)


MEAN = Ablation("mean", "mean ablation", mean, colour=0, doc=mean.__doc__ or "")
ZERO = Ablation("zero", "zero ablation", zero, colour=1, doc=zero.__doc__ or "")

ABLATIONS: Registry[Ablation] = Registry("ablation", (MEAN, ZERO))
"""By name; the first is the primary one, by which tables are sorted."""
