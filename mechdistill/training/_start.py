"""Warm starts: the weights with which a student begins, and what they had seen."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mechdistill.config import RunConfig
from mechdistill.runs import Run

_FIRST = "first_sequence"  # among a run's conditions


class Start(NamedTuple):
    """What a student begins with."""

    weights: Mapping[str, Tensor]
    conditions: Mapping[str, str]
    """For its provenance: the run, step and digest of the weights, and where in its data it begins."""

    @property
    def first(self) -> int:
        """Index of the first sequence of its own stream that it trains on."""
        return int(self.conditions[_FIRST])


def starting_point(root: Path, config: RunConfig) -> Start | None:
    """The start of a run of the experiment under `root`; None where its weights are drawn."""
    if config.start is None:
        return None
    run = Run(str(config.start.run)) if config.start_path is None else Run(root / config.start_path)
    step = run.resolve(config.start.step)
    said = f"{run.config.experiment} {run.name} step {step} sha256 {run.weights_digest(step)}"
    first = _seen(run, step) if config.start.data == "continue" else 0
    return Start(run.weights(step), {"start": said, _FIRST: str(first)})


def _seen(run: Run, step: int) -> int:
    """Index behind the last sequence that a run has trained on after so many steps, also if it began warm itself."""
    first = int(run.provenance["conditions"].get(_FIRST, 0)) if run.config.start is not None else 0
    return first + step * run.config.training.batch
