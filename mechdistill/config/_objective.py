"""The arms of the experiment file: what a run minimises, position by position."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from mechdistill.config._base import Model, Name, Probability, Stage, ascending, exactly_whole


class RampAlpha(Model):
    """alpha goes from `start` to `end` over the run, in a line or along half a cosine."""

    kind: Literal["linear", "cosine"]
    start: Probability
    end: Probability


class StagedAlpha(Model):
    """alpha is constant within stages of the run."""

    kind: Literal["stages"]
    stages: tuple[Stage, ...] = Field(min_length=1, strict=False)
    """Pairs (from, alpha): from this fraction of the run on."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        ascending(self.stages)
        return self


class AlphaByOccurrence(Model):
    """alpha by what a position is: no trigger, a trigger's first occurrence, or copyable (occurrence >= 2)."""

    kind: Literal["by-occurrence"]
    ordinary: Probability
    first: Probability
    copyable: Probability


class OptimalAlpha(Model):
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


Alpha = Annotated[
    Annotated[Probability, Tag("number")]
    | Annotated[RampAlpha, Tag("linear")]
    | Annotated[RampAlpha, Tag("cosine")]
    | Annotated[StagedAlpha, Tag("stages")]
    | Annotated[AlphaByOccurrence, Tag("by-occurrence")]
    | Annotated[OptimalAlpha, Tag("optimal")],
    Discriminator(_tag),
]


class ForwardKL(Model):
    """KL(teacher ‖ student)."""

    kind: Literal["forward-kl"] = "forward-kl"


class ReverseKL(Model):
    """KL(student ‖ teacher): infinite against a teacher that excludes tokens."""

    kind: Literal["reverse-kl"]
    floor: float | None = Field(default=None, ge=1e-8, lt=1)
    """Mix the teacher with this much of the uniform law; without it such a teacher is refused."""


class JSD(Model):
    """beta·KL(p ‖ m) + (1 - beta)·KL(q ‖ m), m = beta·p + (1 - beta)·q, p the teacher and q the student."""

    kind: Literal["jsd"]
    beta: float = Field(default=0.5, gt=0, lt=1)


class NormalisedJSD(Model):
    """JSD / (beta·(1 - beta)): forward KL at beta = 0, reverse KL at beta = 1."""

    kind: Literal["normalised-jsd"]
    beta: Probability = 0.5
    floor: float | None = Field(default=None, ge=1e-8, lt=1)
    """As for reverse-kl; at beta = 1 only."""

    @model_validator(mode="after")
    def _floor_at_the_end_only(self) -> Self:
        if self.floor is not None and self.beta != 1:
            raise ValueError(f"floor={self.floor}: has no effect at beta={self.beta}, only at 1; drop it")
        return self


class TotalVariation(Model):
    """½ Σ |p - q|."""

    kind: Literal["total-variation"]


Divergence = Annotated[
    ForwardKL | ReverseKL | JSD | NormalisedJSD | TotalVariation,
    Field(discriminator="kind"),
]


def _named(value: Any) -> Any:
    """Let a kind without settings be given by its name."""
    return {"kind": value} if isinstance(value, str) else value


class OccurrenceWeights(Model):
    """Weights by what a position is; the mean is always over all positions, so they do not cancel."""

    ordinary: float = Field(default=1.0, ge=0, le=1000)
    first: float = Field(default=1.0, ge=0, le=1000)
    copyable: float = Field(default=1.0, ge=0, le=1000)


class MatchedSmoothing(Model):
    """As much label smoothing as puts its targets as far from the truth as those of another arm, in mean KL."""

    match: Name
    """An arm with a teacher."""


def _smoothing_tag(value: Any) -> str:
    return "match" if isinstance(value, dict | MatchedSmoothing) else "number"


class RoutingConfig(Model):
    """Positions that lose the distillation term, chosen by a signal; ties are broken at random."""

    signal: Literal["teacher-entropy", "oracle-class", "student-entropy", "student-teacher-kl", "random"]
    """oracle-class knows which positions are copyable: they are its low tail."""
    tail: Literal["low", "high"] = "low"
    """Route where the signal is lowest, or highest."""
    quantile: float | None = Field(default=None, ge=0, le=1)
    """Fraction of positions to route."""
    nats: float | None = Field(default=None, ge=0)
    """Route where the signal is at most (tail: low) or at least (high) this."""
    scope: Literal["sequence", "batch"] = "sequence"
    """Within which the fraction holds."""
    keep: Annotated[Literal["1-alpha", 1], BeforeValidator(lambda v: v if isinstance(v, str) else exactly_whole(v))] = (
        "1-alpha"
    )
    """Weight of the cross-entropy at routed positions."""

    @property
    def asks_the_student(self) -> bool:
        """Whether what is routed depends on what the student knows."""
        return self.signal in ("student-entropy", "student-teacher-kl")

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if self.signal == "oracle-class" and self.nats is not None:
            raise ValueError("nats: oracle-class is no entropy; give quantile, or neither for exactly its class")
        if self.signal == "random" and (self.nats is not None or self.tail != "low"):
            raise ValueError("signal=random: has neither nats nor tails; give quantile only")
        given = (self.quantile is not None) + (self.nats is not None)
        if given != 1 and not (given == 0 and self.signal == "oracle-class"):
            raise ValueError("quantile: give exactly one of quantile (a fraction) and nats (a threshold)")
        if self.scope != "sequence" and self.quantile is None:
            raise ValueError("scope=batch: has no effect without quantile; drop it")
        return self


class ArmConfig(Model):
    """A treatment: L = mean over positions of (1 - alpha)·CE(labels) + alpha·D(teacher, student)."""

    alpha: Alpha = 0.0
    """Weight of the distillation term; 0 is standard training (SPT). A number, or a schedule or rule with a `kind`."""
    teacher: Name | None = None
    """Name of an entry of `teachers`; needed when alpha > 0."""
    temperature: float = Field(default=1.0, ge=0.01, le=100)
    """Softens the teacher: softmax(log p / T)."""
    soften: Literal["teacher", "both"] = "teacher"
    """teacher: only it, and the term is not scaled (Goyal et al. 2025); both: the student too, and the term times T²
    (Hinton et al. 2015)."""
    divergence: Annotated[Divergence, BeforeValidator(_named)] = ForwardKL()
    """D: a name, or a mapping with `kind` and its settings."""
    label_smoothing: Annotated[
        Annotated[float, Field(ge=0, lt=1), Tag("number")] | Annotated[MatchedSmoothing, Tag("match")],
        Discriminator(_smoothing_tag),
    ] = 0.0
    """Labels become (1 - s)·y + s/vocab; {match: ARM} finds the s that is as far from the truth as that arm's
    targets."""
    ce_weights: OccurrenceWeights = OccurrenceWeights()
    """Weights of the cross-entropy term by what a position is."""
    routing: RoutingConfig | None = None
    """Positions without the distillation term."""
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
        by_student = self.routing is not None and self.routing.asks_the_student
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
