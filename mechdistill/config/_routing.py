"""Routing: which positions of an arm lose the distillation term, and the signals that say so.

To add a signal: a function of `Seen` in `mechdistill.objective`, and its line in `SIGNALS`. A user's own comes by
`@md.routing_signal`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from mechdistill.config._base import Config, exactly_whole
from mechdistill.config._kinds import one_of
from mechdistill.registry import Registry
from mechdistill.tables import Function


@dataclass(frozen=True)
class Signal:
    """What positions can be routed by."""

    name: str
    implementation: Function
    """`Seen` -> [batch, pos]."""
    asks_the_student: bool = False
    """Whether it depends on what the student knows."""
    reads_occurrence: bool = False
    """Whether it depends on which tokens are triggers, also where the context does not show that."""
    is_random: bool = False
    """Whether it is independent of all else and uniform in [0, 1)."""
    is_in_nats: bool = True
    """Whether a threshold in nats means something."""
    is_entropy: bool = False
    """Whether it lies between 0 and ln(vocab)."""
    has_tails: bool = True
    """Whether its lowest and its highest positions differ."""
    cut: float | None = None
    """Where it says itself which positions are low: up to here."""


SIGNALS: Registry[Signal] = Registry(
    "routing signal",
    (
        Signal("teacher-entropy", "mechdistill.objective._routing:teacher_entropy", is_entropy=True),
        Signal(
            "oracle-class",
            "mechdistill.objective._routing:oracle_class",
            reads_occurrence=True,
            is_in_nats=False,
            cut=0.5,
        ),
        Signal(
            "student-entropy",
            "mechdistill.objective._routing:student_entropy",
            asks_the_student=True,
            is_entropy=True,
        ),
        Signal("student-teacher-kl", "mechdistill.objective._routing:student_teacher_kl", asks_the_student=True),
        Signal("random", "mechdistill.objective._routing:random", is_random=True, is_in_nats=False, has_tails=False),
    ),
)
"""By name."""


def _known(name: str) -> str:
    if name not in SIGNALS:
        raise PydanticCustomError("signal", "Input should be {rule}", {"rule": one_of(SIGNALS)})
    return name


class RoutingConfig(Config):
    """Positions that lose the distillation term, chosen by a signal; ties are broken at random.

    The paper's: the low tail of teacher-entropy. The opposite route, D only at the fraction q of positions where the
    teacher is surest and labels elsewhere: its high tail at the quantile 1 - q, keep 1 and alpha 1.
    """

    signal: Annotated[str, AfterValidator(_known)]
    """oracle-class knows which positions are copyable: they are its low tail."""
    tail: Literal["low", "high"] = "low"
    """Route where the signal is lowest, or highest."""
    quantile: float | None = Field(default=None, ge=0, le=1)
    """Fraction of positions to route."""
    nats: float | None = Field(default=None, ge=0, le=100)
    """Route where the signal is at most (tail: low) or at least (high) this."""
    scope: Literal["sequence", "batch"] = "sequence"
    """Within which the fraction holds."""
    keep: Annotated[Literal["1-alpha", 1], BeforeValidator(lambda v: v if isinstance(v, str) else exactly_whole(v))] = (
        "1-alpha"
    )
    """Weight of the cross-entropy at routed positions."""

    @property
    def by(self) -> Signal:
        """What its signal is."""
        return SIGNALS[self.signal]

    def taken(self, positions: int) -> int:
        """How many of so many positions a quantile routes: to the nearest."""
        assert self.quantile is not None
        return int(self.quantile * positions + 0.5)

    def share(self, seq_len: int, batch: int) -> tuple[int, int] | None:
        """How many positions are routed, of how many at a time; None where a threshold decides."""
        positions = seq_len * (batch if self.scope == "batch" else 1)
        return None if self.quantile is None else (self.taken(positions), positions)

    def check_cut(self, seq_len: int, batch: int, vocab: int) -> None:
        """Raise ValueError if it routes no position or all of them."""
        share = self.share(seq_len, batch)
        if share is not None and share[0] in (0, share[1]):
            which = "none" if share[0] == 0 else "all"
            same = "routing" if which == "none" else "a teacher" if self.keep == 1 else "a distillation term"
            raise ValueError(
                f"quantile={self.quantile:g}: routes {which} of {share[1]} positions, which equals an arm without "
                f"{same}; choose one between"
            )
        largest = math.log(vocab)
        if self.nats is None or not self.by.is_entropy or 0 < self.nats < largest:
            return
        everywhere = {"low": self.nats >= largest, "high": self.nats == 0}[self.tail]
        if everywhere or (self.tail == "high" and self.nats > largest):
            which = "all positions" if everywhere else "no position"
            raise ValueError(
                f"nats={self.nats:g}: with tail={self.tail} routes {which}, since entropies lie between 0 and "
                f"ln(vocab) = {largest:.4f}; choose one between"
            )

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        signal = self.by
        if not signal.has_tails and (self.nats is not None or self.tail != "low"):
            raise ValueError(f"signal={self.signal}: has neither nats nor tails; give quantile only")
        if not signal.is_in_nats and self.nats is not None:
            neither = "" if signal.cut is None else ", or neither for exactly its class"
            raise ValueError(f"nats: {self.signal} is no entropy; give quantile{neither}")
        given = (self.quantile is not None) + (self.nats is not None)
        if given != 1 and not (given == 0 and signal.cut is not None):
            raise ValueError("quantile: give exactly one of quantile (a fraction) and nats (a threshold)")
        if self.scope != "sequence" and self.quantile is None:
            raise ValueError("scope=batch: has no effect without quantile; drop it")
        return self
