"""The claims of arXiv 2509.01649, each with the criterion by which it stands or falls: this file and no other says so.

Fixed before looking. Δ is the arm minus its SPT twin. *Supported*: the 95 % interval over seeds lies on the claim's
side of no effect and the estimate reaches the threshold (of an equivalence: the interval lies inside its bounds).
*Contradicted*: the interval excludes the threshold (lies outside the bounds). Otherwise *inconclusive*; *not tested*
where an arm is absent or a manipulation check fails. A claim with several criteria is supported if all are, and
contradicted if one is.
"""

import math
from dataclasses import dataclass
from typing import Literal

from mechdistill.circuits.scores import TRIGGER_LOOKUP
from mechdistill.stats._effects import (
    Contrast,
    Effect,
    FormationRatio,
    Share,
    difference,
    interaction,
    ratio,
    value,
)
from mechdistill.stats._roles import (
    DOWNWEIGHT,
    DPT,
    DPT_LATE,
    DPT_ORACLE,
    DPT_PERFECT,
    DPT_PERMUTED,
    DPT_SAME,
    DPT_SAME_HALF,
    DPT_TILTED,
    DPT_TOP_1,
    ROUTED_15,
    ROUTED_30,
    ROUTED_RANDOM,
    SPT,
    SPT_2X,
    SPT_HALF,
    Candidate,
    Role,
)
from mechdistill.tables.checks import ROUTING_GAIN, TEACHER_COPYING, TEACHER_ROWS, Check
from mechdistill.tables.metrics import COPY_EXCESS, FORMATION, KL, TEACHER_KL, TEACHER_MISSING, Metric

INF = math.inf

# quantities of a run that are no metric of its log: see `analysis` for how they are measured
LOOKUP = TRIGGER_LOOKUP.name
"""Of its best head, at the last checkpoint."""
ROW_GAIN = "row-gain-slope"
"""Slope of log(KL of its SPT twin / own KL) on row entropy, given visits."""
TOP_GAIN, LOW_RATIO = "top-quartile-gain", "low-entropy-ratio"
"""KL of its SPT twin over its own in the quartile of highest entropy; own over the twin's in rows up to .1 nats."""
PASS_1, PASS_16, PASS_MATCHED = "pass-at-1", "pass-at-16", "pass-at-16-matched"
"""pass@1 and pass@16; and pass@16 at the temperature at which pass@1 is its SPT twin's. Of chains (O3); in a world
without triggers, where there is no copying between decisions and a chain is one of hundreds, of hidden targets (O1)."""
ROOM_1, ROOM_16 = "room-at-1", "room-at-16"
"""The best possible pass@1 and pass@16 less its own: no arm can gain more."""
DISTINCT, VALID = "valid-distinct-2", "valid-share"
SUPPORT_SLOPE = "support-slope"
"""Slope of log(tokens of its SPT twin / own tokens to the same error) on log(non-zeros of the row)."""


@dataclass(frozen=True)
class Threshold:
    """At least, or at most, so much; `none` is no effect."""

    at: float
    side: Literal[">=", "<="] = ">="
    none: float = 0.0

    @property
    def low(self) -> float:
        """The smallest effect that meets it."""
        return self.at if self.side == ">=" else -INF

    @property
    def high(self) -> float:
        """The largest."""
        return self.at if self.side == "<=" else INF

    def __str__(self) -> str:
        return f"{self.side} {self.at:g}"


@dataclass(frozen=True)
class Within:
    """An equivalence: inside these bounds."""

    low: float = -INF
    high: float = INF
    none: float = 0.0

    def __str__(self) -> str:
        if self.low == -INF:
            return f"no more than {self.high:g}"
        return f"no less than {self.low:g}" if self.high == INF else f"within {self.low:g} and {self.high:g}"


@dataclass(frozen=True)
class Criterion:
    """An effect, and what it has to be."""

    label: str
    effect: Effect
    rule: Threshold | Within

    def __str__(self) -> str:
        return f"{self.label} {self.rule}"


@dataclass(frozen=True)
class Condition:
    """A manipulation check, or there was no test of the claim: over the seeds that the criteria are of, that the mean
    lies between bounds, and at least half of them do."""

    label: str
    effect: Contrast
    low: float = -INF
    high: float = INF


@dataclass(frozen=True)
class Claim:
    """What the paper says, and how it is tested."""

    name: str
    statement: str
    lead: Role
    """The arm that it is about: the others stand beside it in the same setting."""
    criteria: tuple[Criterion, ...]
    checks: tuple[Condition, ...] = ()
    world: Literal["stream", "scarce", "supports"] = "stream"
    """Whether sequences are endless, or few; or rows differ in how many successors they have."""
    twins: tuple[Role, ...] = ()
    """Whose runs are needed besides those that its effects name."""

    @property
    def _effects(self) -> list[Effect]:
        return [*(criterion.effect for criterion in self.criteria), *(check.effect for check in self.checks)]

    @property
    def roles(self) -> tuple[Role, ...]:
        """All whose runs it needs, the leading one first."""
        return tuple(
            dict.fromkeys((self.lead, *(role for effect in self._effects for role in effect.roles), *self.twins))
        )

    @property
    def quantities(self) -> tuple[str, ...]:
        """What has to be measured."""
        return tuple(dict.fromkeys(name for effect in self._effects for name in effect.quantities))

    @property
    def asks_when(self) -> bool:
        """Whether it is about when copying forms."""
        return FORMATION.name in self.quantities

    @property
    def follows(self) -> bool:
        """Whether it is about all checkpoints, not the last alone."""
        return SUPPORT_SLOPE in self.quantities

    def takes(self, one: Candidate) -> bool:
        """Whether an arm lives in such a world."""
        if self.world == "supports":
            return one.has_supports
        return (one.unique_sequences is not None) == (self.world == "scarce")


def _check(check: Check, role: Role) -> Condition:
    """One of `tables.CHECKS`, of an arm."""
    return Condition(check.label, value(role, check.name), check.low, check.high)


def _exact(role: Role) -> Condition:
    return Condition("teacher's KL to the oracle", value(role, TEACHER_KL.name), high=1e-3)


def _room(role: Role, quantity: str, threshold: float) -> Condition:
    """That so much can be gained at all over an arm."""
    return Condition(f"room above {role.name}", value(role, quantity), low=threshold)


def _named(metric: Metric) -> str:
    return f"Δ {metric.label}"


_GOOD_ROWS, _IMPERFECT = (_check(check, DPT) for check in (TEACHER_ROWS, TEACHER_COPYING))
_LATER = 1.25  # times
_HARM = 0.1  # nats
_SPARED = difference(DPT, SPT, COPY_EXCESS.name)


def _formed_later(baseline: Role) -> tuple[Criterion, Criterion]:
    return (
        Criterion("formation-time ratio", FormationRatio(DPT, baseline), Threshold(_LATER, none=1)),
        Criterion(_named(TRIGGER_LOOKUP), difference(DPT, baseline, LOOKUP), Threshold(-0.1, "<=")),
    )


def _recovered(routed: Role, beyond: Role) -> Share:
    """How much more of the harm one routing takes away than another arm, as a share of the harm."""
    return Share(difference(beyond, routed, COPY_EXCESS.name), _SPARED)


CLAIMS = (
    Claim(
        "C1",
        "Distillation learns high-entropy rows faster",
        DPT_ORACLE,
        (
            Criterion("slope of log(KL SPT / KL DPT) on row entropy", value(DPT_ORACLE, ROW_GAIN), Threshold(0)),
            Criterion("gain in the top quartile", value(DPT_ORACLE, TOP_GAIN), Threshold(1.5, none=1)),
        ),
        (_exact(DPT_ORACLE),),
        twins=(SPT,),
    ),
    Claim(
        "C2",
        "On low-entropy rows a perfect teacher gives no gain",
        DPT_ORACLE,
        (Criterion("KL ratio on rows of at most .1 nats", value(DPT_ORACLE, LOW_RATIO), Within(0.87, 1.15, none=1)),),
        (_exact(DPT_ORACLE),),
        twins=(SPT,),
    ),
    Claim(
        "C3",
        "An imperfect teacher harms the copy rows",
        DPT,
        (Criterion(_named(COPY_EXCESS), difference(DPT, SPT, COPY_EXCESS.name), Threshold(_HARM)),),
        (_GOOD_ROWS, _IMPERFECT),
    ),
    Claim(
        "C4",
        "So induction heads form later, and weaker",
        DPT,
        _formed_later(SPT),
        (_GOOD_ROWS, _IMPERFECT),
    ),
    Claim(
        "C4b",
        "C4 beyond what weaker hard labels do",
        DPT,
        _formed_later(DOWNWEIGHT),
        (_GOOD_ROWS, _IMPERFECT),
    ),
    Claim(
        "C5",
        "pass@k at larger k improves at similar pass@1",
        DPT_ORACLE,
        (
            Criterion("Δ pass@16 at matched pass@1", difference(DPT_ORACLE, SPT, PASS_MATCHED), Threshold(0.02)),
            # a placebo of which no temperature may reach the twin's pass@1, so that it is taken as it is
            Criterion(
                "pass@16 less the permuted oracle's", difference(DPT_ORACLE, DPT_PERMUTED, PASS_16), Threshold(0)
            ),
        ),
        (_exact(DPT_ORACLE), _room(SPT, ROOM_16, 0.02)),
        "scarce",
    ),
    Claim(
        "C6",
        "DPT-90 on half the data beats SPT on all of it at pass@16",
        DPT_ORACLE,
        (Criterion("pass@16 less that of SPT-2x", difference(DPT_ORACLE, SPT_2X, PASS_16), Threshold(0.01)),),
        (_exact(DPT_ORACLE), _room(SPT_2X, ROOM_16, 0.01)),
        "scarce",
    ),
    Claim(
        "C7",
        "Generations are more diverse",
        DPT_ORACLE,
        (
            Criterion("valid distinct-2, ratio", ratio(DPT_ORACLE, SPT, DISTINCT), Threshold(1.05, none=1)),
            Criterion("Δ validity", difference(DPT_ORACLE, SPT, VALID), Within(low=-0.005)),
        ),
        (_exact(DPT_ORACLE),),
        "scarce",
    ),
    Claim(
        "C8",
        "Token routing at 15 % recovers part of the loss in copying; 30 % gives no more and costs elsewhere",
        DPT,
        (
            Criterion("recovered at 15 %", _recovered(ROUTED_15, DPT), Threshold(0.25)),
            Criterion("more than at random", _recovered(ROUTED_15, ROUTED_RANDOM), Threshold(0)),
            Criterion("recovered at 30 % less 15 %", _recovered(ROUTED_30, ROUTED_15), Within(-0.1, 0.1)),
            Criterion("bigram KL at 30 % over 15 %", ratio(ROUTED_30, ROUTED_15, KL.name), Threshold(1.05, none=1)),
        ),
        (
            _GOOD_ROWS,
            _IMPERFECT,
            _check(ROUTING_GAIN, ROUTED_15),
            Condition("harm to recover, nats", _SPARED, low=_HARM),
        ),
    ),
    Claim(
        "C9",
        "A teacher tuned by RL is the best teacher",
        DPT_TILTED,
        (Criterion("pass@1 less the late teacher's", difference(DPT_TILTED, DPT_LATE, PASS_1), Threshold(0.02)),),
        (
            Condition("teachers' KLs, tilted less late", difference(DPT_TILTED, DPT_LATE, TEACHER_KL.name), low=1e-3),
            _room(DPT_LATE, ROOM_1, 0.02),
        ),
        "scarce",
    ),
    Claim(
        "C10",
        "Even a top-1 teacher beats SPT",
        DPT_TOP_1,
        (
            Criterion("Δ pass@1", difference(DPT_TOP_1, SPT, PASS_1), Threshold(0.01)),
            Criterion("Δ pass@16", difference(DPT_TOP_1, SPT, PASS_16), Threshold(0)),
        ),
        (
            Condition("mass that the teacher excludes", value(DPT_TOP_1, TEACHER_MISSING.name), low=0.01),
            _room(SPT, ROOM_1, 0.01),
        ),
        "scarce",
    ),
    Claim(
        "C11",
        "DPT copies like SPT at half the data and falls behind at all of it",
        DPT_SAME,
        (
            Criterion(
                f"{_named(COPY_EXCESS)} at half",
                difference(DPT_SAME_HALF, SPT_HALF, COPY_EXCESS.name),
                Within(high=0.05),
            ),
            Criterion(
                f"{_named(COPY_EXCESS)} at the end", difference(DPT_SAME, SPT, COPY_EXCESS.name), Threshold(_HARM)
            ),
            Criterion(
                "interaction",
                interaction((DPT_SAME, SPT), (DPT_SAME_HALF, SPT_HALF), COPY_EXCESS.name),
                Threshold(0),
            ),
        ),
    ),
    Claim(
        "C12",
        "A row of p successors needs p times fewer samples with a perfect teacher",
        DPT_PERFECT,
        (Criterion("slope of log(tokens SPT / DPT) on log p", value(DPT_PERFECT, SUPPORT_SLOPE), Within(0.9, 1.1)),),
        (_exact(DPT_PERFECT),),
        "supports",
        (SPT,),
    ),
)
