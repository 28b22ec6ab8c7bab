"""Dense checkpoints where copying forms: weights held from one inline evaluation to the next, and stored if it moved.

Nobody knows beforehand when a circuit forms, and afterwards the weights are gone. So the last few are held in memory,
and the evaluation that ends their window decides about them. What is held is part of the state from which a run goes
on, so that a killed and resumed run stores the same checkpoints.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mechdistill.config import BurstConfig
from mechdistill.tables import LATER, metrics

_HELD, _LAST = "burst.held", "burst.copy-accuracy"


class Burst:
    """The weights since the last evaluation, and the copy accuracy that it found."""

    def __init__(self, config: BurstConfig):
        self.config = config
        self._held: dict[int, dict[str, Tensor]] = {}
        self._last: float | None = None  # before the first evaluation, and where nothing can be copied

    def hold(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of these weights until the next evaluation."""
        self._held[step] = {name: tensor.detach().to("cpu", copy=True) for name, tensor in weights.items()}

    def take(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Tensor]]:
        """The weights to store, by step: none where an evaluation (`rows`) finds little change. Lets go of all."""
        before, self._last = self._last, _copy_accuracy(rows)
        held, self._held = self._held, {}
        moved = before is not None and self._last is not None and abs(self._last - before) >= self.config.change
        return held if moved else {}

    def state(self) -> dict[str, Tensor]:
        """What going on from here needs, as named tensors."""
        tensors = {f"{_HELD}.{step}.{name}": t for step, held in self._held.items() for name, t in held.items()}
        if self._last is not None:
            tensors[_LAST] = torch.tensor(self._last, dtype=torch.float64)
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self._held = {}
        for key, tensor in tensors.items():
            if key.startswith(f"{_HELD}."):
                step, _, name = key.removeprefix(f"{_HELD}.").partition(".")
                self._held.setdefault(int(step), {})[name] = tensor
        self._last = float(tensors[_LAST]) if _LAST in tensors else None


def _copy_accuracy(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """At occurrence >= 2; None where nothing can be copied."""
    found = (r["value"] for r in rows if r["metric"] == metrics.COPY_ACCURACY.name and r.get("occurrence") == LATER)
    return next(found, None)
