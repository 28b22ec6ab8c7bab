"""Manipulation checks of an experiment: what arms are taught, held against the bounds of `CHECKS`."""

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

import pandas as pd

from mechdistill.tables import CHECK_TABLE, CHECKS, Check, Metric, Occurrence, frame, metrics, pick


class Taught(NamedTuple):
    """A run that has a teacher."""

    arm: str
    seed: int
    teacher: str
    baseline: str | None
    """The arm of its undistilled twin; None where the experiment has none in the same sandbox."""
    routing: Literal["informed", "opposite", "blind"] | None
    """Of positions that lose the distillation term: 'informed' (a signal's low tail, where copies are), 'opposite' (its
    high tail: they are what keeps it), 'blind' (at random), or None where none do."""


def manipulation_checks(log: pd.DataFrame, taught: Iterable[Taught]) -> pd.DataFrame:
    """The `checks` table: every check that applies to a taught run, its value, its bounds, and whether it is passed.

    `log`: the `metrics` tables of taught runs and of their twins. Each metric is taken at the last step that has it: at
    the start for a teacher that never changes, at the end for routing and twins. A ratio is null, and neither passed
    nor failed, where the twin is missing; infinite where the teacher excludes what can happen. What a world without
    triggers has no value of is left out.
    """
    rows: list[dict[str, object]] = []
    for run in taught:
        own = _of(log, run.arm, run.seed)
        twin = _of(log, run.baseline, run.seed)
        for check in CHECKS.values():
            if not _applies(check, run):
                continue
            value = _value(check, own, twin)
            if value is None:
                continue
            bounds = {key: bound for key in ("low", "high") if math.isfinite(bound := getattr(check, key))}
            passed = check.low <= value <= check.high if check.is_bounded and not math.isnan(value) else None
            about = {"arm": run.arm, "seed": run.seed, "teacher": run.teacher, "check": check.name}
            rows.append({**about, "value": value, **bounds, "passed": passed})
    return frame(CHECK_TABLE, rows)


def _of(log: pd.DataFrame, arm: str | None, seed: int) -> pd.DataFrame:
    return log[(log["arm"] == arm) & (log["seed"] == seed)] if arm is not None else log.iloc[:0]


def _applies(check: Check, run: Taught) -> bool:
    if check.of == "teaching":
        return True
    return run.routing is not None if check.of == "routing" else run.routing == "informed"


def _value(check: Check, own: pd.DataFrame, twin: pd.DataFrame) -> float | None:
    """None where the check has no meaning, nan where what it needs is missing."""
    value = _last(own, check.metric, check.occurrence)
    if value is None:
        excludes = check.metric is metrics.TEACHER_KL and (_last(own, metrics.TEACHER_MISSING, None) or 0) > 0
        return math.inf if excludes else None
    if check.over is None:
        return value
    over = _last(own if check.over_whose == "own" else twin, check.over, check.occurrence)
    return value / over if over else math.nan


def _last(log: pd.DataFrame, metric: Metric, occurrence: Occurrence | None) -> float | None:
    found = pick(log, metric, occurrence)["value"]  # in the order of steps, as it was logged
    return float(found.iloc[-1]) if len(found) else None
