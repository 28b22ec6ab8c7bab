"""The experiment file: what can be set, its bounds, its defaults.

Everything is checked here, before any directory is made. Models are frozen, unknown keys are refused, booleans are
not numbers, and nan and inf are no values.
"""

import math
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mechdistill.errors import MechdistillError, did_you_mean


def _whole(value: Any) -> Any:
    """Accept 6e6 where a whole number is meant."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]


class _Model(BaseModel):
    """A ValueError raised by a validator here starts with the key it is about, relative to the model."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"{key}: unknown key; {did_you_mean(str(key), cls.model_fields)}")
        return data


M = TypeVar("M", bound=_Model)


class GradedRows(_Model):
    """Row entropies evenly spaced between two values."""

    kind: Literal["graded"] = "graded"
    low: float = Field(default=0.05, ge=0)
    """Entropy of the most predictable row, nats."""
    high: float = Field(default=4.0, ge=0)
    """Entropy of the least predictable row, nats; at most ln(vocab)."""


class FixedTriggers(_Model):
    """Tokens whose successor is drawn anew for every sequence, and then stays."""

    kind: Literal["fixed"] = "fixed"
    count: Whole = Field(default=5, ge=0)
    """How many triggers: the most frequent tokens of the plain chain. 0 gives a plain chain."""
    tokens: tuple[Whole, ...] | None = Field(default=None, strict=False)
    """Name the triggers yourself (count is then their number)."""
    targets: Literal["uniform"] = "uniform"
    """Targets are drawn uniformly from the tokens that are no triggers, so no trigger ever follows a trigger."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an occurrence follows the trigger's ordinary row instead of its target."""

    @model_validator(mode="before")
    @classmethod
    def _count_named_tokens(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tokens") is not None and "count" not in data:
            return {**data, "count": len(data["tokens"])}
        return data


class SandboxConfig(_Model):
    """The world: a Markov chain over `vocab` tokens with some trigger rows."""

    vocab: Whole = Field(default=64, ge=4, le=4096)
    """Number of tokens."""
    seq_len: Whole = Field(default=64, ge=8, le=8192)
    """Predictions in a sequence (a sequence has one token more)."""
    seed: Seed = 1234
    """Seed of the transition matrix and of the held-out sequences."""
    rows: GradedRows = GradedRows()
    triggers: FixedTriggers = FixedTriggers()

    @model_validator(mode="after")
    def _check(self) -> Self:
        rows, triggers = self.rows, self.triggers
        if rows.high > math.log(self.vocab):
            raise ValueError(
                f"rows.high={rows.high}: must be at most ln(vocab) = {math.log(self.vocab):.4f} nats; "
                "lower it or enlarge vocab"
            )
        if rows.low > rows.high:
            raise ValueError(f"rows.low={rows.low}: must be at most rows.high={rows.high}")
        if triggers.count > self.vocab - 4:
            raise ValueError(
                f"triggers.count={triggers.count}: must be at most vocab - 4 = {self.vocab - 4}, "
                "since targets are drawn from tokens that are no triggers"
            )
        if triggers.tokens is not None:
            bad = [t for t in triggers.tokens if not 0 <= t < self.vocab]
            if bad:
                raise ValueError(f"triggers.tokens={bad[0]}: must be between 0 and vocab - 1 = {self.vocab - 1}")
            if len(set(triggers.tokens)) != len(triggers.tokens):
                raise ValueError(f"triggers.tokens={list(triggers.tokens)}: must not repeat a token")
            if triggers.count != len(triggers.tokens):
                raise ValueError(f"triggers.count={triggers.count}: must equal the number of triggers.tokens")
        return self


class ModelConfig(_Model):
    """The student. `bigram` is the null model: an embedding-only table of logits, one row a token."""

    kind: Literal["transformer", "bigram"] = "transformer"
    n_layers: Whole = Field(default=2, ge=1, le=64)
    d_model: Whole = Field(default=128, ge=2, le=8192)
    n_heads: Whole = Field(default=4, ge=1, le=128)
    d_head: Whole | None = Field(default=None, ge=1, le=1024)
    """Width of a head; d_model / n_heads unless given."""
    attn_only: bool = True
    """No MLPs."""
    d_mlp: Whole | None = Field(default=None, ge=1)
    """Hidden width of the MLP; 4·d_model unless given."""
    act: Literal["gelu", "relu"] = "gelu"
    norm: Literal["layernorm"] = "layernorm"
    positions: Literal["learned"] = "learned"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads}: must divide d_model={self.d_model} unless d_head is given")
        if self.attn_only and self.d_mlp is not None:
            raise ValueError(f"d_mlp={self.d_mlp}: has no effect with attn_only: true; set attn_only: false")
        return self

    @property
    def head_width(self) -> int:
        """d_head, resolved."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def mlp_width(self) -> int:
        """d_mlp, resolved."""
        return self.d_mlp or 4 * self.d_model


class TrainingConfig(_Model):
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
    eval_sequences: Whole = Field(default=128, ge=1, le=128)
    """Held-out sequences of an inline evaluation."""


class OracleTeacher(_Model):
    """The exact Bayes-optimal law of the next token given the whole prefix."""

    kind: Literal["oracle"]


class BigramTeacher(_Model):
    """Knows the transition matrix; at triggers it gives the ordinary row and never copies."""

    kind: Literal["bigram"]


class CheckpointTeacher(_Model):
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


class ArmConfig(_Model):
    """A treatment: L = (1 - alpha)·CE(labels) + alpha·KL(teacher ‖ student)."""

    alpha: float = Field(default=0.0, ge=0, le=1)
    """Weight of the distillation term; 0 is standard training (SPT)."""
    teacher: Name | None = None
    """Name of an entry of `teachers`; needed when alpha > 0."""
    temperature: float = Field(default=1.0, gt=0, le=100)
    """Softens the teacher only: softmax(log p / T); the gradient is not scaled by T²."""
    training: dict[str, Any] | None = None
    """Overrides of `training` for this arm."""


class ExperimentConfig(_Model):
    """Arms × seeds in one sandbox."""

    version: Literal[1] = 1
    name: Name = "experiment"
    sandbox: SandboxConfig = SandboxConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    teachers: dict[Name, Teacher] = {}
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


def problem(error: ValidationError) -> str:
    """One line for the first thing wrong with a config: key=value, the rule, and the fix where there is one."""
    first, *others = error.errors()
    path = [str(part) for part in first["loc"] if part != "[key]"]
    if len(path) > 2 and path[0] == "teachers" and path[2] in {"oracle", "bigram", "checkpoint"}:
        del path[2]  # the discriminator, which the user never wrote
    where = ".".join(path)
    if first["type"] == "value_error":
        line = f"{where}.{first.get('ctx', {}).get('error')}" if where else str(first.get("ctx", {}).get("error"))
    elif first["type"] == "missing":
        line = f"{where}: missing; add it"
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
