"""The experiment file: training, teachers, arms, seeds, and the checks across all of its parts.

Everything is checked here, before any directory is made.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mechdistill.config._base import Model, Name, Seed, Whole, exactly_whole
from mechdistill.config._model import ModelConfig
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.errors import MechdistillError

M = TypeVar("M", bound=Model)


class TrainingConfig(Model):
    """The optimiser, its budget, and how often to look."""

    tokens: Whole = Field(default=3_000_000, ge=1)
    """Predictions trained on; steps = ceil(tokens / (batch · seq_len))."""
    batch: Whole = Field(default=32, ge=1)
    """Sequences a step."""
    lr: float = Field(default=3e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.95), strict=False
    )
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Decoupled; on matrices only, not on norms."""
    warmup: Whole = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """After the warm-up: cosine to zero, or constant."""
    grad_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null for none."""
    evaluate_every: Whole = Field(default=50, ge=1)
    """Steps between inline evaluations."""
    checkpoint_every: Whole = Field(default=100, ge=1)
    """Steps between checkpoints (besides step 0, powers of two and the last)."""
    unique_sequences: Whole | None = Field(default=None, ge=1, le=1_000_000)
    """Train on so many sequences, reshuffled every epoch; null for an endless stream."""
    eval_sequences: Whole = Field(default=128, ge=1, le=128)
    """Held-out sequences of an inline evaluation."""


class OracleTeacher(Model):
    """The exact Bayes-optimal law of the next token given the whole prefix."""

    kind: Literal["oracle"]


class BigramTeacher(Model):
    """Knows the transition matrix; at triggers it gives the ordinary row and never copies."""

    kind: Literal["bigram"]


class CheckpointTeacher(Model):
    """A model trained by this experiment with plain cross-entropy, once for each student seed."""

    kind: Literal["checkpoint"]
    until: dict[Literal["copy-accuracy"], Annotated[float, Field(gt=0, le=1)]] | None = Field(
        default=None, min_length=1
    )
    """Stop at the first inline evaluation that reaches this value (copy-accuracy is at occurrence >= 2)."""
    seed: Literal["per-student"] = "per-student"
    """Every student seed has its own teacher, so that teacher luck is inside the interval."""
    training: dict[str, Any] | None = None
    """Overrides of `training` for this teacher."""
    model: dict[str, Any] | None = None
    """Overrides of `model` for this teacher."""


Teacher = Annotated[OracleTeacher | BigramTeacher | CheckpointTeacher, Field(discriminator="kind")]


class ArmConfig(Model):
    """A treatment: L = (1 - alpha)·CE(labels) + alpha·KL(teacher ‖ student)."""

    alpha: float = Field(default=0.0, ge=0, le=1)
    """Weight of the distillation term; 0 is standard training (SPT)."""
    teacher: Name | None = None
    """Name of an entry of `teachers`; needed when alpha > 0."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Softens the teacher only: softmax(log p / T); the gradient is not scaled by T²."""
    training: dict[str, Any] | None = None
    """Overrides of `training` for this arm."""


class ExperimentConfig(Model):
    """Arms × seeds in one sandbox."""

    version: Annotated[Literal[1], BeforeValidator(exactly_whole)] = 1
    name: Name = "experiment"
    sandbox: SandboxConfig = SandboxConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    teachers: dict[Name, Teacher] = Field(default={})
    arms: dict[Name, ArmConfig] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1, strict=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "teachers" in self.arms:
            raise ValueError("arms.teachers: 'teachers' is a reserved name; rename the arm")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={list(self.seeds)}: must not repeat a seed")
        for name, arm in self.arms.items():
            if arm.teacher is not None and arm.teacher not in self.teachers:
                known = ", ".join(sorted(self.teachers)) or "none"
                raise ValueError(
                    f"arms.{name}.teacher={arm.teacher}: must name an entry of teachers (defined: {known})"
                )
            if arm.alpha > 0 and arm.teacher is None:
                raise ValueError(
                    f"arms.{name}.alpha={arm.alpha}: needs a teacher; add `teacher: NAME` or set alpha to 0"
                )
            if arm.alpha == 0 and (arm.teacher is not None or arm.temperature != 1):
                raise ValueError(
                    f"arms.{name}.alpha=0: a teacher or temperature would have no effect; drop it or raise alpha"
                )
            self.arm_training(name)
        for name, teacher in self.teachers.items():
            if isinstance(teacher, CheckpointTeacher):
                self.teacher_training(name)
                self.teacher_model(name)
        return self

    def arm_training(self, arm: str) -> TrainingConfig:
        """`training` as this arm sees it, its overrides applied."""
        return _override(self.training, self.arms[arm].training, f"arms.{arm}.training")

    def teacher_training(self, name: str) -> TrainingConfig:
        """`training` as this checkpoint teacher sees it."""
        return _override(self.training, self._checkpoint_teacher(name).training, f"teachers.{name}.training")

    def teacher_model(self, name: str) -> ModelConfig:
        """`model` as this checkpoint teacher sees it."""
        return _override(self.model, self._checkpoint_teacher(name).model, f"teachers.{name}.model")

    def _checkpoint_teacher(self, name: str) -> CheckpointTeacher:
        teacher = self.teachers[name]
        assert isinstance(teacher, CheckpointTeacher)
        return teacher


def _override(base: M, changes: dict[str, Any] | None, where: str) -> M:
    if not changes:
        return base
    try:
        return type(base).model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise ValueError(f"{where}.{problem(error)}") from None


# pydantic puts the discriminator into the path, where the user never wrote it
_UNIONS = {"rows", "triggers"}
_KINDS = {"graded", "two-level", "dirichlet", "corpus", "fixed", "bernoulli", "oracle", "bigram", "checkpoint"}


def problem(error: ValidationError) -> str:
    """One line for the first thing wrong with a config: key=value, the rule, and the fix where there is one."""
    first, *others = error.errors()
    path = [str(part) for part in first["loc"] if part != "[key]"]
    path = [part for i, part in enumerate(path) if not (i and path[i - 1] in _UNIONS and part in _KINDS)]
    if len(path) > 2 and path[0] == "teachers" and path[2] in _KINDS:
        del path[2]
    where = ".".join(path)
    if first["type"] == "value_error":
        line = f"{where}.{first.get('ctx', {}).get('error')}" if where else str(first.get("ctx", {}).get("error"))
    elif first["type"] == "missing":
        line = f"{where}: missing; add it"
    elif first["type"].startswith("union_tag"):
        line = f"{where}.kind={first['input'].get('kind')!r}: must be one of {first.get('ctx', {})['expected_tags']}"
    else:
        message = first["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
        rule = message if message.startswith(("Field", "String", "Dict", "Tuple", "Unable")) else f"must be {message}"
        line = f"{where}={first['input']!r}: {rule}"
    return f"{line} (and {len(others)} more)" if others else line


def experiment(data: Any) -> ExperimentConfig:
    """The checked experiment of a parsed file; raises `MechdistillError` naming value, rule and fix."""
    if not isinstance(data, dict):
        raise MechdistillError(f"experiment: must be a mapping of keys to values, not {type(data).__name__}")
    try:
        return ExperimentConfig.model_validate(data)
    except ValidationError as error:
        raise MechdistillError(problem(error)) from None
