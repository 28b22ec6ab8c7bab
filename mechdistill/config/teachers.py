"""The teachers of the experiment file: what gives soft targets. Some are made of others, named by `of`.

To add one: its settings and traits as a class here and its line in `TEACHERS`; what it does as a class with
`log_probs` in `mechdistill.teachers`, whose `entry` is that class. A user's own comes by `@md.teacher`.
"""

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from mechdistill.config._base import Name, Seed, Whole
from mechdistill.config._kinds import Kind, of_kind
from mechdistill.config._teacher import Student, TeacherConfig, Traits
from mechdistill.config._trained import CheckpointTeacher, ProgressiveTeacher
from mechdistill.registry import Registry


class OracleTeacher(TeacherConfig, kind="oracle"):
    """The exact Bayes-optimal law of the next token given the whole prefix."""

    traits: ClassVar = Traits(knows_rows=True, knows_targets=True)


class BigramTeacher(TeacherConfig, kind="bigram"):
    """Knows the transition matrix; at triggers it gives the ordinary row and never copies."""

    traits: ClassVar = Traits(knows_rows=True)


class UniformTeacher(TeacherConfig, kind="uniform"):
    """1/vocab everywhere: alpha·KL to it is label smoothing."""


def refuse_uniform(teacher: TeacherConfig, teachers: Mapping[str, TeacherConfig], what: str) -> None:
    """Raise ValueError if what a teacher is made of is uniform and stays so."""
    for part in teacher.parts:
        if isinstance(teachers[part], UniformTeacher):
            raise ValueError(f"of={part}: {what} changes nothing of a uniform teacher, which equals {part}; use that")


def _check_below(below: float | None, vocab: int) -> None:
    most = math.log(vocab)
    if below is not None and below >= most:
        raise ValueError(f"below={below:g}: is everywhere, since no entropy exceeds {most:.4f} nats; drop it")


class NoisyTeacher(TeacherConfig, kind="noisy"):
    """(1 - epsilon)·p + epsilon/vocab."""

    of: Name | None = None
    """The teacher made noisy; the oracle unless named."""
    epsilon: float = Field(default=0.1, gt=0, le=1)
    """Mass taken away and spread evenly."""
    below: float | None = Field(default=None, ge=0, le=100)
    """Only at positions where the oracle's entropy is at most this, nats; null: everywhere."""

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if self.epsilon == 1 and self.below is None:
            raise ValueError("epsilon=1: leaves nothing of the teacher, which equals kind: uniform; use that")
        return self

    def check(self, teachers: Mapping[str, TeacherConfig]) -> None:
        """Raise ValueError for noise on noise that is all there is."""
        refuse_uniform(self, teachers, "noise")

    def check_fit(self, student: Student, teachers: Mapping[str, TeacherConfig]) -> None:  # noqa: ARG002
        """Raise ValueError for a threshold that every position is below."""
        _check_below(self.below, student.sandbox.vocab)


class CountTeacher(TeacherConfig, kind="count"):
    """A bigram table counted (maximum likelihood) from so many tokens; rows never seen are uniform."""

    tokens: Whole = Field(default=1_000_000, ge=1, le=1_000_000_000)
    """Predictions counted."""
    data: Literal["same", "fresh"] = "same"
    """same: the student's own stream from its start; fresh: a stream of its own."""

    def check_fit(self, student: Student, teachers: Mapping[str, TeacherConfig]) -> None:  # noqa: ARG002
        """Raise ValueError if it counts more of the student's data than there are."""
        unique = (student.training.unique_sequences or 0) * student.sandbox.seq_len
        if self.data == "same" and unique and self.tokens > unique:
            raise ValueError(
                f"tokens={self.tokens} are more than the student's own {unique} (unique_sequences x seq_len); lower "
                "them"
            )


class EnsembleTeacher(TeacherConfig, kind="ensemble"):
    """The mean of the probabilities of several teachers."""

    of: tuple[Name, ...] = Field(min_length=2, max_length=64, strict=False)

    @model_validator(mode="after")
    def _of_several(self) -> Self:
        if len(set(self.of)) == 1:
            raise ValueError(f"of: names {self.of[0]} alone, which equals that teacher; name others too, or use it")
        return self


class TiltedTeacher(TeacherConfig, kind="tilted"):
    """The exact law of a teacher tuned by KL-regularised RL: p*(y) ∝ p(y)·E[exp(R/beta) | y].

    R counts the rewarded transitions among the next `horizon` ones. A random `share` of the rows is rewarded, the
    same in every run, and in each of them a random fraction `good` of the successors that it has.
    """

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
    below: float | None = Field(default=None, ge=0, le=100)
    """Only rows whose entropy is at most this, nats, so that a reward and what is measured elsewhere do not meet;
    null: any."""
    seed: Seed = 0
    """Of the rewarded rows and successors."""

    def check(self, teachers: Mapping[str, TeacherConfig]) -> None:
        """Raise ValueError for a horizon beyond which the teacher's future is not known."""
        if self.horizon > 1 and not self._before(teachers).knows_rows:
            raise ValueError(f"horizon={self.horizon}: is exact for an oracle or a bigram only; use 1")

    def check_fit(self, student: Student, teachers: Mapping[str, TeacherConfig]) -> None:
        """Raise ValueError for a horizon beyond which the oracle's future depends on more than the current token."""
        sandbox = student.sandbox
        _check_below(self.below, sandbox.vocab)
        exact = sandbox.is_plain or (sandbox.shows_triggers and self.horizon == 2)
        if self.horizon > 1 and self._before(teachers).knows_targets and not exact:
            raise ValueError(
                f"horizon={self.horizon} is exact only where the chain is plain (triggers.count 0), or at 2 with fixed "
                "triggers; lower it"
            )

    def _before(self, teachers: Mapping[str, TeacherConfig]) -> Traits:
        return (teachers[self.of] if self.of else OracleTeacher).traits


class EmaTeacher(TeacherConfig, kind="ema"):
    """The exponential moving average of the student's own weights."""

    traits: ClassVar = Traits(moves=True, follows_student=True)

    decay: float = Field(default=0.99, ge=0, lt=1)
    """teacher <- decay·teacher + (1 - decay)·student after every step."""


class SpliceTeacher(TeacherConfig, kind="splice"):
    """One teacher at copyable positions (occurrence >= 2 of a trigger) and another elsewhere."""

    traits: ClassVar = Traits(reads_occurrence=True)

    copyable: Name
    elsewhere: Name

    @model_validator(mode="after")
    def _of_two(self) -> Self:
        if self.copyable == self.elsewhere:
            raise ValueError(f"elsewhere={self.elsewhere}: is what copyable names, which equals that teacher; use it")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """Both."""
        return (self.copyable, self.elsewhere)


class PermutedTeacher(TeacherConfig, kind="permuted"):
    """A teacher whose probabilities are permuted within rows: softness without information."""

    of: Name | None = None
    """The teacher permuted; the oracle unless named."""

    def check(self, teachers: Mapping[str, TeacherConfig]) -> None:
        """Raise ValueError where there is nothing to permute."""
        refuse_uniform(self, teachers, "a permutation")


class TemperatureTeacher(TeacherConfig, kind="temperature"):
    """softmax(log p / temperature)."""

    of: Name
    temperature: float = Field(ge=0.01, le=100)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.temperature == 1:
            raise ValueError(f"temperature=1: changes nothing, which equals the teacher {self.of}; use that")
        return self

    def check(self, teachers: Mapping[str, TeacherConfig]) -> None:
        """Raise ValueError for what no temperature changes."""
        refuse_uniform(self, teachers, "a temperature")


class TopKTeacher(TeacherConfig, kind="top-k"):
    """The k likeliest tokens of a teacher; ties are broken at random."""

    traits: ClassVar = Traits(draws=True)

    of: Name
    k: Whole = Field(ge=1, le=4096)
    tail: Literal["renormalise", "bucket"] = "renormalise"
    """renormalise: the others get nothing; bucket: they share what they had, evenly."""

    def check_fit(self, student: Student, teachers: Mapping[str, TeacherConfig]) -> None:  # noqa: ARG002
        """Raise ValueError if it keeps every token."""
        if self.k >= student.sandbox.vocab:
            raise ValueError(
                f"k={self.k}: keeps all {student.sandbox.vocab} tokens, which equals the teacher {self.of}; use that"
            )


class SampledTeacher(TeacherConfig, kind="sampled"):
    """n labels drawn from a teacher at every position, instead of its law."""

    traits: ClassVar = Traits(draws=True, gives_labels=True)

    of: Name
    n: Whole = Field(ge=1, le=4096)


TEACHERS: Registry[Kind[TeacherConfig]] = Registry(
    "teacher",
    (
        Kind(OracleTeacher, "mechdistill.teachers._exact:Oracle"),
        Kind(BigramTeacher, "mechdistill.teachers._exact:Bigram"),
        Kind(UniformTeacher, "mechdistill.teachers._exact:Uniform"),
        Kind(NoisyTeacher, "mechdistill.teachers._corrupted:Noisy"),
        Kind(CountTeacher, "mechdistill.teachers._count:Count"),
        Kind(CheckpointTeacher, "mechdistill.teachers._checkpoint:Checkpoint"),
        Kind(ProgressiveTeacher, "mechdistill.teachers._checkpoint:Progressive"),
        Kind(EnsembleTeacher, "mechdistill.teachers._combined:Ensemble"),
        Kind(TiltedTeacher, "mechdistill.teachers._tilted:Tilted"),
        Kind(EmaTeacher, "mechdistill.teachers._student:Ema"),
        Kind(SpliceTeacher, "mechdistill.teachers._combined:Splice"),
        Kind(PermutedTeacher, "mechdistill.teachers._corrupted:Permuted"),
        Kind(TemperatureTeacher, "mechdistill.teachers._combined:Temperature"),
        Kind(TopKTeacher, "mechdistill.teachers._drawn:TopK"),
        Kind(SampledTeacher, "mechdistill.teachers._drawn:Sampled"),
    ),
)
"""By kind. A part that an entry leaves out is the oracle."""

TeacherEntry = Annotated[SerializeAsAny[TeacherConfig], of_kind(TEACHERS)]
"""A teacher of any kind."""
