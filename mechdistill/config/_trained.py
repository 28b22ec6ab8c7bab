"""Teachers that training makes: a model with plain cross-entropy, and the checkpoints along its way."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mechdistill.config._base import Name, Seed, Stage, Whole, check_reached, check_stages
from mechdistill.config._teacher import Student, TeacherConfig, Traits
from mechdistill.config._training import MOST_STEPS
from mechdistill.tables.metrics import COPY_ACCURACY

_WATCHED = (COPY_ACCURACY.name,)  # at occurrence >= 2


def _watched(metric: str) -> str:
    """Refuse a metric that training does not watch."""
    if metric not in _WATCHED:
        rule = " or ".join(map(repr, _WATCHED))
        raise PydanticCustomError("until", "Input should be {rule}", {"rule": rule})
    return metric


class CheckpointTeacher(TeacherConfig, kind="checkpoint"):
    """A model trained with plain cross-entropy: by this experiment for each student seed, or an earlier run's."""

    until: dict[Annotated[str, AfterValidator(_watched)], Annotated[float, Field(gt=0, le=1)]] | None = Field(
        default=None, min_length=1
    )
    """Stop at the first look that reaches this value (copy-accuracy is at occurrence >= 2, on 1024 sequences)."""
    seed: Literal["per-student"] | Seed = "per-student"
    """Every student seed has its own teacher, so that teacher luck is inside the interval; a number: all share it."""
    data: Literal["fresh", "same"] = "fresh"
    """fresh: a stream of its own; same: its student's own sequences from their start (seed: per-student only)."""
    training: dict[str, Any] | None = None
    """Overrides of `training` for this teacher."""
    model: dict[str, Any] | None = None
    """Overrides of `model` for this teacher."""
    sandbox: dict[str, Any] | None = None
    """Overrides of `sandbox` for this teacher."""
    run: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Directory of an earlier run, instead of training one."""
    step: Annotated[Whole, Field(ge=0, le=MOST_STEPS)] | Literal["last"] | None = None
    """Checkpoint of that run."""

    @model_validator(mode="after")
    def _trained_or_given(self) -> Self:
        if self.run is None and self.step is not None:
            raise ValueError(f"step={self.step}: needs `run`, the directory of an earlier run; name it or drop step")
        if self.data == "same" and self.seed != "per-student":
            raise ValueError("data=same: needs seed=per-student, since every student has its own sequences")
        if self.run is not None:
            for key in ("until", "training", "model", "sandbox"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: has no effect on an earlier run's checkpoint; drop it or drop run")
            if self.seed != "per-student" or self.data != "fresh":
                key = "seed" if self.data == "fresh" else "data"
                raise ValueError(f"{key}: has no effect on an earlier run's checkpoint; drop it or drop run")
        return self

    @property
    def is_trained_here(self) -> bool:
        """Whether this experiment trains it."""
        return self.run is None


class ProgressiveTeacher(TeacherConfig, kind="progressive"):
    """The checkpoints of one teacher's own training, one after another (Panigrahi et al. 2025)."""

    traits: ClassVar = Traits(moves=True)

    of: Name
    """A checkpoint teacher that this experiment trains."""
    stages: tuple[Stage, ...] = Field(
        default=((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)), min_length=1, max_length=64, strict=False
    )
    """Pairs (from, checkpoint): from this fraction of the student's training on, the teacher's checkpoint nearest to
    that fraction of its own."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        check_stages(self.stages)
        return self

    def check_fit(self, student: Student, teachers: Mapping[str, TeacherConfig]) -> None:  # noqa: ARG002
        """Raise ValueError if its student never reaches a stage."""
        check_reached(self.stages, student.training.steps(student.sandbox.seq_len))

    @property
    def fractions(self) -> tuple[float, ...]:
        """Those of its stages."""
        return tuple(fraction for _, fraction in self.stages)

    def check(self, teachers: Mapping[str, TeacherConfig]) -> None:
        """Raise ValueError unless the checkpoints will be there."""
        if self.stages == ((0.0, 1.0),):
            raise ValueError(f"stages: is the last checkpoint throughout, which equals the teacher {self.of}; use that")
        of = teachers[self.of]
        if not (isinstance(of, CheckpointTeacher) and of.is_trained_here):
            raise ValueError(f"of={self.of}: must be a checkpoint teacher that this experiment trains")
