"""The null models of a run, from its config alone: its data and its teachers are opened as in training."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from mechdistill.config import RunConfig
from mechdistill.training._distillation import Distillation
from mechdistill.training._references import trained_model
from mechdistill.world import KnownWorld


def tabular_laws(
    root: Path, config: RunConfig, world: KnownWorld, at: Sequence[int], *, pseudo_count: float
) -> Iterator[Tensor]:
    """The table [row, next] (probabilities, float64) that minimises a run's objective on its data, after each step.

    `root` is the experiment's directory, where its teachers lie. See `analysis.tabular_null`. Raises
    `MechdistillError` for an objective without a closed form.
    """
    data = world.training(config.data_seed, config.training.unique_sequences)
    distillation = Distillation(config, world, data, "cpu", partial(trained_model, root, config))
    return distillation.tabular(data).laws(at, pseudo_count)
