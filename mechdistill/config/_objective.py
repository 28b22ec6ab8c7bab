"""The arms of the experiment file: what a run minimises, position by position."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from mechdistill.config._base import Config, Name, Probability, Stage, check_stages
from mechdistill.config._divergences import Divergence, ForwardKL
from mechdistill.config._routing import RoutingConfig
from mechdistill.config._start import WarmStart


def _number(alpha: float) -> str:
    """What a schedule that does not move is the same as."""
    return f"alpha: {alpha:g}; write that" if alpha else "standard training (SPT); leave alpha out"


_LEAST = 1e-6
"""The smallest weight of a term that is not 0."""


class RampAlpha(Config):
    """alpha goes from `start` to `end` over the run, in a line or along half a cosine."""

    kind: Literal["linear", "cosine"]
    start: Probability
    end: Probability

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.start == self.end:
            raise ValueError(f"end={self.end:g}: equals start, so that this is {_number(self.end)}")
        return self


class StagedAlpha(Config):
    """alpha is constant within stages of the run."""

    kind: Literal["stages"]
    stages: tuple[Stage, ...] = Field(min_length=1, max_length=64, strict=False)
    """Pairs (from, alpha): from this fraction of the run on."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        check_stages(self.stages)
        if len(self.stages) == 1:
            raise ValueError(f"stages: is one value throughout, so that this is {_number(self.stages[0][1])}")
        return self


class AlphaByOccurrence(Config):
    """alpha by what a position is: no trigger, a trigger's first occurrence, or copyable (occurrence >= 2)."""

    kind: Literal["by-occurrence"]
    ordinary: Probability
    first: Probability
    copyable: Probability

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.ordinary == self.first == self.copyable:
            raise ValueError(f"ordinary={self.ordinary:g}: equals first and copyable: this is {_number(self.ordinary)}")
        return self


class OptimalAlpha(Config):
    """The best mix for a table that has seen a context n times: alpha* = v / (v + n·b), from the oracle.

    v = 1 - Σp² is the variance of a label under the oracle's law p, b = ‖t - p‖² the teacher's squared error, n the
    expected visits of the current token's row so far. Source: after Menon et al. 2021.
    """

    kind: Literal["optimal"]


def _tag(value: Any) -> str | None:
    """The `kind` of a mapping or model; 'number' for a plain value."""
    if isinstance(value, dict):
        return value.get("kind")
    return getattr(value, "kind", "number")


_KINDS = ("linear", "cosine", "stages", "by-occurrence", "optimal")


def _number_or_mapping(value: Any) -> Any:
    """Say what alpha can be to whoever gives neither, like the bare name of a kind."""
    if isinstance(value, int | float | dict | Config) and not isinstance(value, bool):
        return value
    example = f"like {{kind: {value}}}" if value in _KINDS[-1:] else "like {kind: linear, start: 0.9, end: 0}"
    rule = f"must be a number from 0 to 1, or a schedule: a mapping with a kind ({', '.join(_KINDS)}), {{example}}"
    raise PydanticCustomError("alpha", rule, {"example": example})  # type: ignore[arg-type]  # a template


def _noticed(weight: float) -> float:
    if 0 < weight < _LEAST:
        rule = "must be 0 or at least {least}: less is lost in float32, so that it equals 0"
        raise PydanticCustomError("weight", rule, {"least": f"{_LEAST:g}"})
    return weight


Alpha = Annotated[
    Annotated[Probability, AfterValidator(_noticed), Tag("number")]
    | Annotated[RampAlpha, Tag("linear")]
    | Annotated[RampAlpha, Tag("cosine")]
    | Annotated[StagedAlpha, Tag("stages")]
    | Annotated[AlphaByOccurrence, Tag("by-occurrence")]
    | Annotated[OptimalAlpha, Tag("optimal")],
    Discriminator(_tag),
    BeforeValidator(_number_or_mapping),
]


class OccurrenceWeights(Config):
    """Weights by what a position is; the mean is always over all positions, so they do not cancel."""

    ordinary: float = Field(default=1.0, ge=0, le=1000)
    first: float = Field(default=1.0, ge=0, le=1000)
    copyable: float = Field(default=1.0, ge=0, le=1000)


class MatchedSmoothing(Config):
    """As much label smoothing as puts its targets as far from the truth as those of another arm, in mean KL."""

    match: Name
    """An arm with a teacher."""


def _smoothing_tag(value: Any) -> str:
    return "match" if isinstance(value, dict | MatchedSmoothing) else "number"


class ArmConfig(Config):
    """A treatment: L = mean over positions of (1 - alpha)·CE(labels) + alpha·D(teacher, student).

    The mean is over all positions, also of those that `routing` or `ce_weights` leave without a term, unless
    `normalise` gives each term a mean over its own.
    """

    alpha: Alpha = 0.0
    """Weight of the distillation term; 0 is standard training (SPT). A number, or a schedule or rule with a `kind`."""
    teacher: Name | None = None
    """Name of an entry of `teachers`; needed when alpha > 0."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Softens the teacher: softmax(log p / T)."""
    soften: Literal["teacher", "both"] = "teacher"
    """teacher: only it, and the term is not scaled (Goyal et al. 2025); both: the student too, and the term times T²
    (Hinton et al. 2015)."""
    divergence: Divergence = ForwardKL()
    """D: a name, or a mapping with `kind` and its settings."""
    label_smoothing: Annotated[
        Annotated[float, Field(ge=0, lt=1), AfterValidator(_noticed), Tag("number")]
        | Annotated[MatchedSmoothing, Tag("match")],
        Discriminator(_smoothing_tag),
    ] = 0.0
    """Labels become (1 - s)·y + s/vocab; {match: ARM} finds the s that is as far from the truth as that arm's
    targets."""
    ce_weights: OccurrenceWeights = OccurrenceWeights()
    """Weights of the cross-entropy term by what a position is."""
    routing: RoutingConfig | None = None
    """Positions without the distillation term."""
    normalise: Literal["all", "per-term"] = "all"
    """What each term is divided by. all: the number of positions, so that a term that weighs on fewer of them weighs
    less; per-term: the number of positions of the batch on which it weighs."""
    init: WarmStart | None = None
    """A warm start, like {arm: spt, step: 1000}; null: weights drawn from the init seed."""
    training: dict[str, Any] | None = None
    """Overrides of `training` for this arm."""
    model: dict[str, Any] | None = None
    """Overrides of `model` for this arm."""
    sandbox: dict[str, Any] | None = None
    """Overrides of `sandbox` for this arm."""

    @property
    def distils(self) -> bool:
        """Whether any position ever has a distillation term."""
        return self.alpha != 0

    @property
    def has_one_target(self) -> bool:
        """Whether it asks for the same law at every step, as far as its teacher does."""
        by_student = self.routing is not None and self.routing.by.asks_the_student
        return not by_student and not isinstance(self.alpha, RampAlpha | StagedAlpha | OptimalAlpha)

    @model_validator(mode="after")
    def _no_dead_settings(self) -> Self:
        if self.distils and self.teacher is None:
            value = self.alpha if isinstance(self.alpha, int | float) else self.alpha.kind
            raise ValueError(f"alpha={value}: needs a teacher; add `teacher: NAME` or set alpha to 0")
        if not self.distils:
            dead = {
                "teacher": self.teacher is not None,
                "temperature": self.temperature != 1,
                "divergence": self.divergence != ForwardKL(),
                "routing": self.routing is not None,
            }
            for key, given in dead.items():
                if given:
                    raise ValueError(f"alpha=0: {key} would have no effect; drop it or raise alpha")
        if self.alpha == 1 and (self.routing is None or self.routing.keep != 1):
            for key, given in (
                ("label_smoothing", self.label_smoothing != 0),
                ("ce_weights", self.ce_weights != OccurrenceWeights()),
            ):
                if given:
                    raise ValueError(
                        f"{key}: has no effect at alpha=1, where labels weigh nothing; drop it or lower alpha"
                    )
        if not self.distils and set(self.ce_weights.model_dump().values()) == {0.0}:
            raise ValueError("ce_weights: are all 0, so that nothing would be learned; raise one")
        if self.soften == "both" and self.temperature == 1:
            raise ValueError("soften=both: has no effect at temperature 1; set a temperature or drop it")
        return self
