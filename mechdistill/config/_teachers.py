"""The teachers of the experiment file: what gives soft targets. Some are made of others, named by `of`."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mechdistill.config._base import Model, Name, Probability, Seed, Stage, Whole, ascending


class TeacherModel(Model):
    """What all teachers share."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the teachers that this one is made of."""
        of = getattr(self, "of", None)
        return () if of is None else (of,) if isinstance(of, str) else tuple(of)


class OracleTeacher(TeacherModel):
    """The exact Bayes-optimal law of the next token given the whole prefix."""

    kind: Literal["oracle"]


class BigramTeacher(TeacherModel):
    """Knows the transition matrix; at triggers it gives the ordinary row and never copies."""

    kind: Literal["bigram"]


class UniformTeacher(TeacherModel):
    """1/vocab everywhere: alpha·KL to it is label smoothing."""

    kind: Literal["uniform"]


class NoisyTeacher(TeacherModel):
    """(1 - epsilon)·p + epsilon/vocab."""

    kind: Literal["noisy"]
    of: Name | None = None
    """The teacher made noisy; the oracle unless named."""
    epsilon: Probability = 0.1
    """Mass taken away and spread evenly."""
    below: float | None = Field(default=None, ge=0)
    """Only at positions where the oracle's entropy is at most this, nats; null: everywhere."""


class CountTeacher(TeacherModel):
    """A bigram table counted (maximum likelihood) from so many tokens; rows never seen are uniform."""

    kind: Literal["count"]
    tokens: Whole = Field(default=1_000_000, ge=1, le=1_000_000_000)
    """Predictions counted."""
    data: Literal["same", "fresh"] = "same"
    """same: the student's own stream from its start; fresh: a stream of its own."""


class CheckpointTeacher(TeacherModel):
    """A model trained with plain cross-entropy: by this experiment for each student seed, or an earlier run's."""

    kind: Literal["checkpoint"]
    until: dict[Literal["copy-accuracy"], Annotated[float, Field(gt=0, le=1)]] | None = Field(
        default=None, min_length=1
    )
    """Stop at the first inline evaluation that reaches this value (copy-accuracy is at occurrence >= 2)."""
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
    run: str | None = None
    """Directory of an earlier run, instead of training one."""
    step: Whole | Literal["last"] | None = None
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


class ProgressiveTeacher(TeacherModel):
    """The checkpoints of one teacher's own training, one after another (Panigrahi et al. 2025)."""

    kind: Literal["progressive"]
    of: Name
    """A checkpoint teacher that this experiment trains."""
    stages: tuple[Stage, ...] = Field(
        default=((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)), min_length=1, strict=False
    )
    """Pairs (from, checkpoint): from this fraction of the student's training on, the teacher's checkpoint nearest to
    that fraction of its own."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        ascending(self.stages)
        return self


class EnsembleTeacher(TeacherModel):
    """The mean of the probabilities of several teachers."""

    kind: Literal["ensemble"]
    of: tuple[Name, ...] = Field(min_length=2, strict=False)


class TiltedTeacher(TeacherModel):
    """The exact law of a teacher tuned by KL-regularised RL: p*(y) ∝ p(y)·E[exp(R/beta) | y].

    R counts the rewarded transitions among the next `horizon` ones. A random `share` of the rows is rewarded, the
    same in every run, and in each of them a random fraction `good` of the successors that it has.
    """

    kind: Literal["tilted"]
    of: Name | None = None
    """The teacher before tuning; the oracle unless named."""
    beta: float = Field(default=1.0, ge=1e-3, le=1000)
    """Strength of the pull back to that teacher: the smaller, the further the tuning goes."""
    horizon: Whole = Field(default=1, ge=1, le=64)
    """Transitions that a reward is summed over."""
    share: float = Field(default=0.5, gt=0, le=1)
    """Fraction of ordinary rows with a reward."""
    good: float = Field(default=0.25, gt=0, lt=1)
    """Fraction of such a row's successors that are rewarded; at least one."""
    seed: Seed = 0
    """Of the rewarded rows and successors."""


class EmaTeacher(TeacherModel):
    """The exponential moving average of the student's own weights."""

    kind: Literal["ema"]
    decay: float = Field(default=0.99, ge=0, lt=1)
    """teacher <- decay·teacher + (1 - decay)·student after every step."""


class SpliceTeacher(TeacherModel):
    """One teacher at copyable positions (occurrence >= 2 of a trigger) and another elsewhere."""

    kind: Literal["splice"]
    copyable: Name
    elsewhere: Name

    @property
    def parts(self) -> tuple[str, ...]:
        """Both."""
        return (self.copyable, self.elsewhere)


class PermutedTeacher(TeacherModel):
    """A teacher whose probabilities are permuted within rows: softness without information."""

    kind: Literal["permuted"]
    of: Name | None = None
    """The teacher permuted; the oracle unless named."""


class TemperatureTeacher(TeacherModel):
    """softmax(log p / temperature)."""

    kind: Literal["temperature"]
    of: Name
    temperature: float = Field(ge=0.01, le=100)


class TopKTeacher(TeacherModel):
    """The k likeliest tokens of a teacher; ties are broken at random."""

    kind: Literal["top-k"]
    of: Name
    k: Whole = Field(ge=1)
    tail: Literal["renormalise", "bucket"] = "renormalise"
    """renormalise: the others get nothing; bucket: they share what they had, evenly."""


class SampledTeacher(TeacherModel):
    """n labels drawn from a teacher at every position, instead of its law."""

    kind: Literal["sampled"]
    of: Name
    n: Whole = Field(ge=1, le=4096)


Teacher = Annotated[
    OracleTeacher
    | BigramTeacher
    | UniformTeacher
    | NoisyTeacher
    | CountTeacher
    | CheckpointTeacher
    | ProgressiveTeacher
    | EnsembleTeacher
    | TiltedTeacher
    | EmaTeacher
    | SpliceTeacher
    | PermutedTeacher
    | TemperatureTeacher
    | TopKTeacher
    | SampledTeacher,
    Field(discriminator="kind"),
]


def closure(names: list[str], teachers: dict[str, Teacher]) -> dict[str, Teacher]:
    """The named teachers and all that they are made of, parts first.

    Raises ValueError, starting with the key, for a name that is not defined or a teacher made of itself.
    """
    found: dict[str, Teacher] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"teachers.{name}: is made of itself ({' -> '.join((*above, name))}); break the circle")
        for part in teachers[name].parts:
            if part not in teachers:
                known = ", ".join(sorted(teachers))
                raise ValueError(f"teachers.{name}: is made of {part}, which is no entry of teachers (there: {known})")
            visit(part, (*above, name))
        found[name] = teachers[name]

    for name in names:
        visit(name, ())
    return found
