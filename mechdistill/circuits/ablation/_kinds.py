"""What stands in the place of a head's output when it is knocked out, as records that everything iterates.

To add one: a function of z below, and its `Ablation` in `ABLATIONS`. A user's own: `md.ablation`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.registry import Registry

Z = Float[Tensor, "batch pos head d_head"]  # of a layer's heads on the unablated model


@dataclass(frozen=True)
class Ablation:
    """A way of knocking heads out."""

    name: str
    label: str
    """For legends and the heads of columns."""
    replacement: Callable[[Z, torch.Generator], Z]
    """(z of a layer on the evaluation set, random numbers of its own) -> what its heads write instead.

    The random numbers are the same at every layer: what is drawn for one head of a set is drawn for all of them."""
    colour: int = 0
    """Slot of the palette; shades of one arm of the figure."""
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


def resample(z: Z, generator: torch.Generator) -> Z:
    """Resample ablation: the head writes what it wrote at the same position of another sequence.

    On distribution in every respect but the head's own input: what it says of the position alone stays, what it says
    of this sequence goes. Sequences are dealt out along one random circle through them all, so that none gets its own
    back and each is used once. Raises `MechdistillError` for a single sequence.
    Source: Chan et al. 2022 (causal scrubbing).
    """
    if len(z) < 2:
        raise MechdistillError(f"ablation 'resample': {len(z)} sequence has no other to take from; take at least 2")
    circle = torch.randperm(len(z), generator=generator)
    source = torch.empty_like(circle).scatter(0, circle, circle.roll(1))
    return z[source.to(z.device)]


MEAN = Ablation("mean", "mean ablation", mean, colour=0, doc=mean.__doc__ or "")
ZERO = Ablation("zero", "zero ablation", zero, colour=1, doc=zero.__doc__ or "")
RESAMPLE = Ablation("resample", "resample ablation", resample, colour=3, doc=resample.__doc__ or "")

ABLATIONS: Registry[Ablation] = Registry("ablation", (MEAN, ZERO, RESAMPLE))
"""By name; the first is the primary one, by which tables are sorted."""
