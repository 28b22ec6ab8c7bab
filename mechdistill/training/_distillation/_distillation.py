"""A run's teacher and objective, built from its config and asked together."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mechdistill import evals, teachers
from mechdistill.config import RunConfig, definitions
from mechdistill.laws import uniform_like
from mechdistill.model import Model
from mechdistill.objective import Objective
from mechdistill.positions import HELD_OUT, EvaluationSet, Positions, predict
from mechdistill.tables import metrics
from mechdistill.training._distillation._floor import Floor
from mechdistill.training._distillation._losses import BatchLoss, TrainingLoss
from mechdistill.training._distillation._matched import smoothing_like
from mechdistill.training._distillation._rows import Look
from mechdistill.training._distillation._tabular import Tabular
from mechdistill.training._distillation._targets import Targets
from mechdistill.world import Batch, KnownWorld, Stream


class Distillation:
    """The teacher and objective of one run."""

    def __init__(
        self,
        config: RunConfig,
        world: KnownWorld,
        data: Stream,
        device: str,
        trained: Callable[[str, float], Model] | None = None,
    ):
        """`trained` opens the models of checkpoint teachers: name and fraction of their training to model."""
        self._config, self._world, self._device = config, world, device

        def on_device(name: str, fraction: float) -> Model:
            assert trained is not None, f"checkpoint teacher {name} without a way to open its model"
            return trained(name, fraction).to(device)

        def built(name: str) -> teachers.Teacher:
            return teachers.build_teacher(name, config.teachers, world, data, config.taught_by, on_device)

        teacher = built(config.objective.teacher) if config.objective.teacher else None
        smoothing = None
        if config.matched is not None and config.matched.teacher:
            smoothing = smoothing_like(Objective(config.matched), built(config.matched.teacher), config, world)
        self._objective = Objective(config.objective, smoothing)
        self._targets = Targets(config, world, teacher)
        self._floor = Floor(self._objective, self._targets, world)
        self._loss = TrainingLoss(self._objective, distils=teacher is not None)
        self.logged = self._loss.logged
        """The metrics of a training batch."""
        self.state, self.restore = self._targets.state, self._targets.restore

    @property
    def conditions(self) -> dict[str, str]:
        """What the run's bits depend on besides its config: teacher, matched smoothing, and users' definitions."""
        teacher = self._targets.teacher
        smoothing = f"{self._objective.smoothing:.9g}"
        conditions = {"teacher": "none" if teacher is None else teacher.id, "label_smoothing": smoothing}
        own = [f"{what} {origin.digest}" for what, origin in definitions(self._config).items()]
        return conditions | ({"definitions": ", ".join(own)} if own else {})

    def loss(self, logits: Tensor, batch: Batch, step: int, student: Model) -> BatchLoss:
        """The loss of a training batch, and the values behind `logged`."""
        log_probs = logits.float().log_softmax(dim=-1)
        labels = self._world.labels(batch.tokens, batch.triggers)
        self._targets.advance(step, student)
        asked = self._targets.ask(labels, log_probs, step, with_mean=self._objective.reads_the_expected_law)
        return self._loss(asked, batch.next_tokens.to(self._device))

    @torch.no_grad()
    def refuse_no_law(self, batch: Batch, step: int, student: Model) -> None:
        """Raise `MechdistillError` if a teacher, asked about this batch at this step, gives what is no law."""
        self._targets.advance(step, student)
        self._targets.refuse_no_law(self._world.labels(batch.tokens, batch.triggers), step)

    @torch.no_grad()
    def evaluate(self, data: EvaluationSet, step: int, student: Model) -> tuple[Positions, list[dict[str, Any]]]:
        """The student's predictions, and rows about its objective at this step, and its teacher where that is new."""
        first = step == (self._config.branch.start if self._config.branch else 0)
        look = self._look(data, step, student, with_teacher=first or self._targets.change)
        positions = predict(student, data, look.see)
        rows = look.rows(positions)
        if first and self._objective.smoothing:
            rows.append(metrics.LABEL_SMOOTHING.row(self._objective.smoothing))
        return positions, rows

    @torch.no_grad()
    def describe_targets(self, step: int, student: Model) -> pd.DataFrame | None:
        """What the run is taught, at its start: the teacher row by row, and the objective's floor where it stays.

        None where it is taught by labels alone, as they are.
        """
        if self._targets.teacher is None and not self._objective.smoothing:
            return None
        data = EvaluationSet.held_out(self._world, HELD_OUT)
        look = self._look(data, step, student, with_teacher=True)
        for chunk in data.chunks():
            look.see(chunk, uniform_like(chunk.data.labels.log_probs).to(self._device))
        return evals.describe_targets(data, look.teacher, look.floor if self._objective.config.has_one_target else None)

    def tabular(self, data: Stream) -> Tabular:
        """What a count table comes to on these data, which are the run's."""
        return Tabular(self._config, self._objective, self._targets, self._world, data)

    def _look(self, data: EvaluationSet, step: int, student: Model, *, with_teacher: bool) -> Look:
        return Look(
            self._objective, self._targets, self._floor, data, step=step, student=student, with_teacher=with_teacher
        )
