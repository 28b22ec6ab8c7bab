"""What a measure is given: one checkpoint, its world, held-out data, and other measures' tables of the same checkpoint.

Measures are pure functions of a subject; who made it knows where the checkpoint lies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import torch

from mechdistill.model import Model
from mechdistill.positions import HELD_OUT, EvaluationSet, Positions, predict
from mechdistill.tables import Measure
from mechdistill.world import World

PROBE_SEED = 0  # of probe sequences and random controls: the same for every run, so that runs compare


@dataclass(frozen=True)
class Subject:
    """One checkpoint to measure."""

    open_model: Callable[[], Model]
    world: World
    table: Callable[[Measure], pd.DataFrame]
    """Another measure's table of this checkpoint."""
    untrained: Callable[[Measure], pd.DataFrame | None]
    """A measure's table of the same run before its first step; None where that checkpoint is not there."""
    open_targets: Callable[[], pd.DataFrame | None]

    @cached_property
    def model(self) -> Model:
        """The hooked model, in eval mode."""
        return self.open_model()

    @cached_property
    def targets(self) -> pd.DataFrame | None:
        """What the run is taught, row by row (columns of `row-curves`); None where labels alone teach it."""
        return self.open_targets()

    @cached_property
    def data(self) -> EvaluationSet:
        """Held-out sequences."""
        return EvaluationSet.held_out(self.world, HELD_OUT)

    @cached_property
    def positions(self) -> Positions:
        """The model's predictions on them, position by position."""
        return predict(self.model, self.data)

    def generator(self) -> torch.Generator:
        """Random numbers, the same for every subject."""
        return torch.Generator().manual_seed(PROBE_SEED)
