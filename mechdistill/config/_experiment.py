"""The experiment file: what can be set, its bounds, its defaults.

Everything is checked here, before any directory is made. Models are frozen, unknown keys are refused, booleans are
not numbers, and nan and inf are no values.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mechdistill.errors import MechdistillError, did_you_mean


def _whole(value: Any) -> Any:
    """Accept 6e6 where a whole number is meant."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _whole_only(value: Any) -> Any:
    """Keep True and 1.0 from passing for 1."""
    return value if type(value) is int else str(value)


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


class TwoLevelRows(_Model):
    """Uniform rows on random supports: some small, some large."""

    kind: Literal["two-level"]
    share: float = Field(default=0.5, ge=0, le=1)
    """Fraction of rows with the small support."""
    low: Whole = Field(default=2, ge=1)
    """Successors of a low-entropy row: its entropy is ln(low)."""
    high: Whole = Field(default=32, ge=1)
    """Successors of a high-entropy row: its entropy is ln(high)."""


class DirichletRows(_Model):
    """Rows drawn from a symmetric Dirichlet law."""

    kind: Literal["dirichlet"]
    concentration: float = Field(default=0.3, ge=0.01, le=1000)
    """Small: peaked rows; 1: uniform on the simplex; large: flat rows."""


class CorpusRows(_Model):
    """Character bigrams of a text file; tokens are its most frequent characters, in order."""

    kind: Literal["corpus"]
    path: str
    """A UTF-8 text file."""
    sha256: str | None = None
    """Of the file; filled in when it is first read, and then it must not change."""


Rows = Annotated[GradedRows | TwoLevelRows | DirichletRows | CorpusRows, Field(discriminator="kind")]


class _Triggers(_Model):
    targets: Literal["uniform", "row"] = "uniform"
    """Law of a trigger's target: uniform, or its ordinary row; never the trigger itself, never a fixed trigger."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an occurrence follows the trigger's ordinary row instead of its target."""


class FixedTriggers(_Triggers):
    """The same triggers in every sequence; targets come from the other tokens, so no trigger follows a trigger."""

    kind: Literal["fixed"] = "fixed"
    count: Whole = Field(default=5, ge=0)
    """How many triggers: the most frequent tokens of the plain chain. 0 gives a plain chain."""
    tokens: tuple[Whole, ...] | None = Field(default=None, strict=False)
    """Name the triggers yourself (count is then their number)."""

    @model_validator(mode="before")
    @classmethod
    def _count_named_tokens(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("tokens"), list | tuple) and "count" not in data:
            return {**data, "count": len(data["tokens"])}
        return data


class BernoulliTriggers(_Triggers):
    """Every sequence draws its own triggers, so a model has to infer from context which tokens are triggers."""

    kind: Literal["bernoulli"]
    rate: (
        Annotated[float, Field(gt=0, lt=1)]
        | Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(strict=False)]
    ) = 0.2
    """Probability that a token is a trigger in a sequence; one number, or one a token."""


Triggers = Annotated[FixedTriggers | BernoulliTriggers, Field(discriminator="kind")]


def _with_kind(default: str) -> BeforeValidator:
    """Let `kind` be left out where there is a usual one."""
    return BeforeValidator(lambda data: {"kind": default, **data} if isinstance(data, dict) else data)


class SandboxConfig(_Model):
    """The world: a Markov chain over `vocab` tokens with some trigger rows."""

    vocab: Whole = Field(default=64, ge=4, le=4096)
    """Number of tokens."""
    seq_len: Whole = Field(default=64, ge=8, le=8192)
    """Predictions in a sequence (a sequence has one token more)."""
    seed: Seed = 1234
    """Seed of the transition matrix and of the held-out sequences."""
    rows: Annotated[Rows, _with_kind("graded")] = GradedRows()
    triggers: Annotated[Triggers, _with_kind("fixed")] = FixedTriggers()

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        rows = self.rows
        if isinstance(rows, GradedRows):
            if rows.high > math.log(self.vocab):
                raise ValueError(
                    f"rows.high={rows.high}: must be at most ln(vocab) = {math.log(self.vocab):.4f} nats; "
                    "lower it or enlarge vocab"
                )
            if rows.low > rows.high:
                raise ValueError(f"rows.low={rows.low}: must be at most rows.high={rows.high}")
        if isinstance(rows, TwoLevelRows):
            if rows.high > self.vocab:
                raise ValueError(f"rows.high={rows.high}: must be at most vocab={self.vocab} successors")
            if rows.low > rows.high:
                raise ValueError(f"rows.low={rows.low}: must be at most rows.high={rows.high}")
        if isinstance(rows, CorpusRows):
            sha256 = _check_corpus(rows, self.vocab)
            if rows.sha256 is None:
                return self.model_copy(update={"rows": rows.model_copy(update={"sha256": sha256})})
        return self

    @model_validator(mode="after")
    def _check_triggers(self) -> Self:
        triggers = self.triggers
        if isinstance(triggers, BernoulliTriggers):
            if isinstance(triggers.rate, tuple) and len(triggers.rate) != self.vocab:
                raise ValueError(
                    f"triggers.rate: has {len(triggers.rate)} entries; must have one a token ({self.vocab})"
                )
            return self
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


def _check_corpus(rows: CorpusRows, vocab: int) -> str:
    """The file's SHA-256, once it is known to have enough characters and to be the one it was."""
    try:
        data = Path(rows.path).read_bytes()
        symbols = len(set(data.decode("utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"rows.path={rows.path}: must be a readable UTF-8 text file ({reason})") from None
    if symbols < vocab:
        raise ValueError(f"vocab={vocab}: must be at most {symbols}, the distinct characters of {rows.path}")
    sha256 = hashlib.sha256(data).hexdigest()
    if rows.sha256 not in (None, sha256):
        raise ValueError(f"rows.path={rows.path}: has changed since sha256 was recorded; restore the file")
    return sha256


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
    act: Literal["gelu", "relu", "swiglu"] = "gelu"
    """Of the MLP; swiglu has a third matrix, W_gate, and its own d_mlp stays 4·d_model unless given."""
    norm: Literal["layernorm", "rmsnorm", "none"] = "layernorm"
    """Before each attention, MLP and the unembedding."""
    positions: Literal["learned", "rotary"] = "learned"
    """Learned vectors added to the embedding, or queries and keys rotated by their position (base 10000)."""
    n_kv_heads: Whole | None = Field(default=None, ge=1, le=128)
    """Key-value heads, each shared by n_heads / n_kv_heads query heads in a row; n_heads unless given."""
    tied: bool = False
    """The unembedding is the transposed embedding, one parameter."""
    biases: bool = False
    """Biases of queries, keys, values and outputs, and into and out of the MLP; never of the unembedding."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads}: must divide d_model={self.d_model} unless d_head is given")
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads={self.n_kv_heads}: must divide n_heads={self.n_heads}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(
                f"positions=rotary: rotates pairs, so the width of a head must be even, not {self.head_width}; "
                "set an even d_head"
            )
        if self.attn_only and self.d_mlp is not None:
            raise ValueError(f"d_mlp={self.d_mlp}: has no effect with attn_only: true; set attn_only: false")
        return self

    @property
    def head_width(self) -> int:
        """d_head, resolved."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """n_kv_heads, resolved."""
        return self.n_kv_heads or self.n_heads

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
    unique_sequences: Whole | None = Field(default=None, ge=1, le=1_000_000)
    """Train on so many sequences, reshuffled every epoch; null for an endless stream."""
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

    version: Annotated[Literal[1], BeforeValidator(_whole_only)] = 1
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
