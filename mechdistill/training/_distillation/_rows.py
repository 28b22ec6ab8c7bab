"""What evaluations say of a run's objective and teacher, gathered chunk by chunk while the student is predicted."""

from typing import Any

import torch
from torch import Tensor

from mechdistill import evals
from mechdistill.model import Model
from mechdistill.objective import Objective, Unrouted
from mechdistill.positions import Chunk, EvaluationSet, Positions
from mechdistill.training._distillation._floor import Floor
from mechdistill.training._distillation._targets import Targets, is_law


class Look:
    """One evaluation set at one step. `see` every chunk in order, then ask for what was seen."""

    def __init__(
        self,
        objective: Objective,
        targets: Targets,
        floor: Floor,
        data: EvaluationSet,
        *,
        step: int,
        student: Model,
        with_teacher: bool,
    ):
        """`with_teacher`: whether the teacher's own quality is looked at too."""
        self._objective, self._targets, self._floor = objective, targets, floor
        self._data, self._step = data, step
        self._with_teacher = with_teacher and targets.teacher is not None
        self._unrouted: list[Unrouted] = []
        self._floors: list[Tensor] = []
        self._teacher: list[Positions] = []
        targets.advance(step, student)

    def see(self, chunk: Chunk, log_probs: Tensor) -> None:
        """Ask teacher and objective about a chunk where the student has these log-probabilities."""
        asked = self._targets.ask_of(chunk, log_probs, self._step, self._data)
        if self._with_teacher and asked.teacher_log_probs is not None and not is_law(asked.teacher_log_probs).all():
            self._targets.refuse_no_law(chunk.data.labels, self._step)
        self._unrouted.append(self._objective.unrouted(asked).cpu())
        floor = self._floor.at(asked)
        if floor is not None:
            self._floors.append(floor.cpu())
        if self._with_teacher and asked.teacher_log_probs is not None:
            self._teacher.append(Positions(chunk.data, asked.teacher_log_probs).reduced())

    @property
    def teacher(self) -> Positions | None:
        """What is right or wrong with the teacher's targets; None without one, or where nobody asked."""
        return Positions.joined(self._data, self._teacher) if self._teacher else None

    @property
    def floor(self) -> Tensor | None:
        """See `Floor`."""
        return torch.cat(self._floors) if self._floors else None

    def rows(self, student: Positions) -> list[dict[str, Any]]:
        """Rows of the `metrics` table about the objective at this step, and about the teacher."""
        weights = self._objective.routed(Unrouted.joined(self._unrouted))
        rows = evals.objective_metrics(student, weights, self.floor)
        if self._objective.config.routing is not None:
            rows += evals.routing_metrics(self._data, weights.routed)
        teacher = self.teacher
        if teacher is not None:
            rows += evals.teacher_metrics(teacher)
        return rows
