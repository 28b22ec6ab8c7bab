"""Manipulation checks as records: whether what an arm is taught is what the study says, whatever its students do.

The paper's teacher is the better model, which copies imperfectly; and routing that picks no more copyable positions
than chance does cannot spare them. To add one: a `Check` in `CHECKS`, of metrics that runs log.
"""

from dataclasses import dataclass
from typing import Literal

from mechdistill.registry import Registry
from mechdistill.tables import metrics
from mechdistill.tables._columns import LATER, ORDINARY, Occurrence
from mechdistill.tables.metrics import INF, Metric


@dataclass(frozen=True)
class Check:
    """A metric of a taught run, or its ratio to another one, and between which bounds it has to lie."""

    name: str
    label: str
    """In words."""
    metric: Metric
    occurrence: Occurrence | None = None
    over: Metric | None = None
    """What it is divided by, at the same occurrence."""
    over_whose: Literal["own", "baseline"] = "own"
    """Whether that is the run's own, or its undistilled twin's final one."""
    low: float = -INF
    high: float = INF
    of: Literal["teaching", "routing", "informed routing"] = "teaching"
    """Whom it is about: all that are taught, those that route, those of them that mean to route what can be copied."""

    @property
    def is_bounded(self) -> bool:
        """Whether there is anything to pass; otherwise the value is only reported."""
        return self.low > -INF or self.high < INF


TEACHER_ROWS = Check(
    "teacher-rows",
    "teacher's bigram KL over the final one of the undistilled twin",
    metrics.TEACHER_KL,
    ORDINARY,
    over=metrics.KL,
    over_whose="baseline",
    high=0.5,
)
TEACHER_COPYING = Check(
    "teacher-copying",
    "teacher's mean probability of the right target where copying is possible",
    metrics.TEACHER_COPY_MASS,
    LATER,
    low=0.6,
    high=0.9,
)
# recall over routed fraction is precision over the share of copyable positions, which is a random choice's
ROUTING_GAIN = Check(
    "routing-gain",
    "routing precision over a random choice's",
    metrics.ROUTING_RECALL,
    over=metrics.ROUTED,
    low=2.0,
    of="informed routing",
)
_PRECISION = Check(
    "realised-precision", "share of routed positions that are copyable", metrics.ROUTING_PRECISION, of="routing"
)
_RECALL = Check("realised-recall", "share of copyable positions that are routed", metrics.ROUTING_RECALL, of="routing")

CHECKS: Registry[Check] = Registry("check", (TEACHER_ROWS, TEACHER_COPYING, ROUTING_GAIN, _PRECISION, _RECALL))
"""By name."""
