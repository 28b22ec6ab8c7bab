"""What a run is taught at a step: its teacher's law, and the mean of that law where it is drawn."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mechdistill import teachers
from mechdistill.config import OptimalAlpha, RunConfig, Traits
from mechdistill.errors import MechdistillError
from mechdistill.model import Model
from mechdistill.objective import Asked, Part
from mechdistill.positions import Chunk, EvaluationSet
from mechdistill.teachers import Moment, Teacher
from mechdistill.world import KnownWorld, Labels

_PREFIX = "teacher"
_SLACK = 1e-2  # of the sum of a law's probabilities, by which rounding cannot miss 1


def is_law(log_probs: Tensor) -> Tensor:
    """At which positions probabilities sum to 1, as nan and infinities do not: [batch, pos] of [batch, pos, vocab]."""
    return (log_probs.exp().sum(dim=-1) - 1).abs() < _SLACK


class Targets:
    """A run's teacher, or none, and all else that its objective asks for at positions."""

    def __init__(self, config: RunConfig, world: KnownWorld, teacher: Teacher | None):
        self.teacher = teacher
        self._mean = None if teacher is None else teacher.expected()
        self._everyone = [] if teacher is None else list(teachers.everyone(teacher))
        self._config = config
        asked = isinstance(config.objective.alpha, OptimalAlpha)  # in a large world this takes a moment
        self._occurrence = torch.tensor(world.stationary).float() if asked else None
        self._tokens_a_step = config.training.batch * world.seq_len
        self._known: tuple[EvaluationSet, Tensor] | None = None  # the law of a teacher that never changes

    @property
    def change(self) -> bool:
        """Whether the same positions can get other targets at another step."""
        return self.teacher is not None and self.teacher.changes

    @property
    def traits(self) -> list[Traits]:
        """Of the teacher and all that it is made of."""
        return [one.traits for one in self._everyone]

    def have_a_mean_at(self, temperature: float) -> bool:
        """Whether the mean of the targets, softened by it, is their mean softened; itself where nothing is drawn."""
        return self.teacher is self._mean or (self._mean is not None and temperature == 1)

    def moment(self, step: int) -> Moment:
        """Where training is."""
        return Moment(step, self._config.horizon, self._config.seed)

    def advance(self, step: int, student: Model) -> None:
        """Tell the teacher that the student is about to make this step, or to be evaluated after it."""
        for one in self._everyone:
            one.advance(self.moment(step), student)

    def ask(
        self,
        labels: Labels,
        log_probs: Tensor,
        step: int,
        *,
        law: Tensor | None = None,
        with_mean: bool = True,
        part: Part | None = None,
    ) -> Asked:
        """What the objective needs to know of positions where the student has these log-probabilities.

        All laws are on the student's device: what a teacher reads off tables is moved there, here and once. `law` is
        the teacher's where it is known already. The mean of a teacher that draws costs its law once more: without it
        the draws stand in.
        """
        if self.teacher is not None and law is None:
            law = self._law(self.teacher, labels, step).to(log_probs.device)
        expected = law
        if with_mean and self._mean is not None and self._mean is not self.teacher:
            expected = self._mean.log_probs(labels.row, labels).to(log_probs.device)
        visits = None if self._occurrence is None else step * self._tokens_a_step * self._occurrence
        return Asked(labels, law, expected, log_probs, self.moment(step), visits, part)

    def _law(self, teacher: Teacher, labels: Labels, step: int) -> Tensor:
        try:
            return teacher.log_probs(labels.row, labels)
        except RuntimeError:  # what draws from a law that is none cannot say whose it is
            self.refuse_no_law(labels, step)
            raise

    def refuse_no_law(self, labels: Labels, step: int) -> None:
        """Raise `MechdistillError` naming the first teacher, parts first, whose law is none at some of the positions.

        A law is finite or excludes tokens (-inf), and its probabilities sum to 1. Who follows the student is not to
        blame for it.
        """
        for one in self._everyone:
            if any(part.traits.follows_student for part in teachers.everyone(one)):
                continue
            law = one.log_probs(labels.row, labels)
            off = ~is_law(law)
            if off.any():
                wrong = law[off][0]
                total = float(wrong.exp().sum())
                gave = "nan" if wrong.isnan().any() else f"probabilities that sum to {total:.4g}"
                who = f"teacher '{one.name}'" if one.name else "a teacher"
                raise MechdistillError(
                    f"{self._config.path}: {who} ({one.id}) gave {gave} at step {step}; mend it or name another teacher"
                )

    def ask_of(self, chunk: Chunk, log_probs: Tensor, step: int, data: EvaluationSet) -> Asked:
        """The same of a chunk of an evaluation set; chunks are asked about in order, after `advance`.

        Draws go on from chunk to chunk. A law that never changes is remembered if the chunk is the whole set.
        """
        law = self._known[1] if self._known is not None and self._known[0] is chunk.data else None
        part = None if chunk.data is data else Part(chunk.first, len(data))
        asked = self.ask(chunk.data.labels, log_probs, step, law=law, part=part)
        if asked.teacher_log_probs is not None and chunk.data is data and not self.change:
            self._known = (data, asked.teacher_log_probs)
        return asked

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        return {
            f"{_PREFIX}.{number}.{name}": tensor
            for number, one in enumerate(self._everyone)
            for name, tensor in one.state().items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave."""
        for number, one in enumerate(self._everyone):
            prefix = f"{_PREFIX}.{number}."
            one.restore({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
