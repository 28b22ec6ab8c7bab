"""What the loop sees of distillation: a run's teacher and objective, asked together at a step."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mechdistill import evals, teachers
from mechdistill.config import RunConfig, definitions
from mechdistill.errors import MechdistillError
from mechdistill.laws import entropy, forward_kl, soften, uniform_like
from mechdistill.model import Model
from mechdistill.objective import Asked, Objective, matched_smoothing
from mechdistill.positions import HELD_OUT, EvaluationSet, Positions
from mechdistill.tables import Metric, metrics, train_divergence
from mechdistill.world import Batch, KnownWorld, Labels, Stream


class Distillation:
    """The teacher and objective of one run; a run without a teacher goes through the same lines."""

    def __init__(
        self,
        config: RunConfig,
        world: KnownWorld,
        data: Stream,
        device: str,
        trained: Callable[[str, float], Model] | None = None,
    ):
        self._config, self._world, self._device = config, world, device
        self._stationary = torch.from_numpy(world.stationary).float()
        self._law: Tensor | None = None  # of a teacher that never changes, on the evaluation set

        def on_device(name: str, fraction: float) -> Model:
            assert trained is not None, f"checkpoint teacher {name} without a way to open its model"
            return trained(name, fraction).to(device)

        def built(name: str) -> teachers.Teacher:
            return teachers.build_teacher(name, config.teachers, world, data, config.seed, on_device)

        objective, matched, smoothing = config.objective, config.matched, None
        self.teacher = built(objective.teacher) if objective.teacher else None
        self._mean = None if self.teacher is None else self.teacher.expected()
        if matched is not None and matched.teacher:
            smoothing = self._matched_smoothing(Objective(matched), built(matched.teacher))
        self.objective = Objective(objective, smoothing)
        self.logged: list[Metric] = [metrics.TRAIN_LOSS, metrics.TRAIN_CROSS_ENTROPY]
        """What `loss` gives besides the loss, in order."""
        if self.objective.smoothing:
            self.logged.append(metrics.TRAIN_SMOOTHED)
        if self.teacher is not None:
            self.logged.append(train_divergence(objective.divergence.kind))
            if objective.divergence.is_forward_kl:  # the same gradient, another value: never take one for the other
                self.logged.append(metrics.TRAIN_SOFT)

    @property
    def conditions(self) -> dict[str, str]:
        """What the run's bits depend on besides its config: who teaches, and how much smoothing was found to match."""
        teacher = "none" if self.teacher is None else self.teacher.id
        conditions = {"teacher": teacher, "label_smoothing": f"{self.objective.smoothing:.9g}"}
        own = [f"{what} {origin.digest}" for what, origin in definitions(self._config).items()]
        return conditions | ({"definitions": ", ".join(own)} if own else {})

    def loss(self, logits: Tensor, batch: Batch, step: int, student: Model) -> tuple[Tensor, Tensor]:
        """The loss of a training batch, and the values behind `logged`."""
        log_probs = logits.float().log_softmax(dim=-1)
        labels = self._world.labels(batch.tokens, batch.triggers)
        asked = self._ask(labels, log_probs, step, student, with_mean=self.objective.reads_the_expected_law)
        losses = self.objective.loss(asked, batch.next_tokens.to(self._device))
        with torch.no_grad():
            logged = [losses.total, losses.cross_entropy]
            if self.objective.smoothing:
                logged.append(losses.smoothed)
            if losses.divergence is not None and asked.teacher_log_probs is not None:
                logged.append(losses.divergence)
                if self.logged[-1] is metrics.TRAIN_SOFT:
                    arm = self.objective.config
                    scale = arm.temperature**2 if arm.soften == "both" else 1
                    teacher_entropy = entropy(soften(asked.teacher_log_probs, arm.temperature)).mean()
                    logged.append(losses.divergence + scale * teacher_entropy)
            return losses.total, torch.stack(logged)

    @torch.no_grad()
    def metrics(self, positions: Positions, step: int, student: Model) -> list[dict[str, Any]]:
        """Rows about the objective at this step, and about the teacher where it is new."""
        data = positions.data
        changes = self.teacher is not None and self.teacher.changes
        asked = self._ask(data.labels, positions.log_probs, step, student, None if changes else self._law)
        self._law = asked.teacher_log_probs
        weights = self.objective.weights(asked)
        rows = evals.objective_metrics(positions, weights, self._floor(asked))
        if self.objective.config.routing is not None:
            rows += evals.routing_metrics(data, weights.routed)
        first = step == (self._config.branch.start if self._config.branch else 0)
        if asked.teacher_log_probs is not None and (first or changes):
            rows += evals.teacher_metrics(Positions(data, asked.teacher_log_probs))
        if first and self.objective.smoothing:
            rows.append(metrics.LABEL_SMOOTHING.row(self.objective.smoothing))
        return rows

    @torch.no_grad()
    def describe_targets(self, step: int, student: Model) -> pd.DataFrame | None:
        """What the run is taught, at its start: the teacher row by row, and the objective's floor where it stays.

        None where it is taught by labels alone, as they are.
        """
        if self.teacher is None and not self.objective.smoothing:
            return None
        data = EvaluationSet.held_out(self._world, HELD_OUT)
        asked = self._ask(data.labels, uniform_like(data.labels.log_probs), step, student)
        floor = self._floor(asked) if self.objective.config.has_one_target else None
        teacher = None if asked.teacher_log_probs is None else Positions(data, asked.teacher_log_probs)
        return evals.describe_targets(data, teacher, floor)

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        return {
            f"teacher.{number}.{name}": tensor
            for number, one in enumerate(self._everyone())
            for name, tensor in one.state().items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for number, one in enumerate(self._everyone()):
            prefix = f"teacher.{number}."
            one.restore({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})

    def _everyone(self) -> list[teachers.Teacher]:
        return [] if self.teacher is None else list(teachers.everyone(self.teacher))

    def _ask(
        self,
        labels: Labels,
        log_probs: Tensor,
        step: int,
        student: Model,
        law: Tensor | None = None,
        *,
        with_mean: bool = True,
    ) -> Asked:
        """What the objective needs to know at a step; `law` is the teacher's where it is known already.

        The mean of a teacher that draws costs its law once more: without it the draws stand in.
        """
        moment = teachers.Moment(step, self._config.horizon, self._config.seed)
        if self.teacher is not None and law is None:
            for one in self._everyone():
                one.advance(moment, student)
            law = self.teacher.log_probs(labels.row, labels).to(log_probs.device)
        expected = law
        if with_mean and self._mean is not None and self._mean is not self.teacher:
            expected = self._mean.log_probs(labels.row, labels).to(log_probs.device)
        visits = step * self._config.training.batch * self._world.seq_len * self._stationary
        return Asked(labels, law, expected, log_probs, moment, visits)

    def _floor(self, asked: Asked) -> Tensor | None:
        """KL(oracle ‖ the law at which this step's expected loss is smallest) at every position; None if not known.

        It is not known where a teacher draws inside another, follows the student (its errors would pass for the
        objective's), or goes by occurrences that the context does not show.
        """
        visible = self._world.shows_triggers
        unknown = any(
            one.traits.follows_student or (one.traits.reads_occurrence and not visible) for one in self._everyone()
        )
        if unknown or (self.teacher is not None and self._mean is None):
            return None
        target = self.objective.target(asked, occurrence_is_visible=visible)
        return None if target is None else forward_kl(asked.labels.log_probs, target)

    def _matched_smoothing(self, objective: Objective, teacher: teachers.Teacher) -> float:
        """The smoothing whose targets are as far from the truth as another arm's, on held-out sequences."""
        data = EvaluationSet.held_out(self._world, HELD_OUT)
        mean = teacher.expected()
        law = None if mean is None else mean.log_probs(data.tokens, data.labels)
        moment = teachers.Moment(0, self._config.horizon, self._config.seed)
        asked = Asked(
            data.labels, law, law, uniform_like(data.labels.log_probs), moment, torch.zeros_like(self._stationary)
        )
        visible = self._world.shows_triggers
        target = None if law is None else objective.target(asked, occurrence_is_visible=visible)
        if target is None:
            raise MechdistillError(
                "label_smoothing.match: the law that the other arm asks for is not known (its teacher draws inside "
                "another, or its routing goes by quantiles); match another arm"
            )
        distance = forward_kl(data.labels.log_probs, target)
        return matched_smoothing(data.labels.log_probs, float(distance[~distance.isnan()].mean()))
