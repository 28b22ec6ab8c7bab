"""Where laws are computed: a model's on its device, those of tables on the CPU, what needs both with the model's."""

from collections.abc import Iterable

from torch import Tensor


def together(laws: Iterable[Tensor]) -> list[Tensor]:
    """Laws on one device, that of a model if any of them was computed by one; what is there already is not copied."""
    laws = list(laws)
    device = next((law.device for law in laws if law.device.type != "cpu"), laws[0].device)
    return [law.to(device) for law in laws]


def with_float64(law: Tensor) -> Tensor:
    """A law where it is, or on the CPU if that has no float64 (Apple's GPUs), in which teachers mix and soften."""
    return law.cpu() if law.device.type == "mps" else law
