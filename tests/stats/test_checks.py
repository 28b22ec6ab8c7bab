"""Manipulation checks against numbers that are worked out by hand."""

import math

import pandas as pd
import pytest

from mechdistill.stats import Taught, manipulation_checks
from mechdistill.tables import LATER, METRICS_LOG, ORDINARY, frame, metrics, with_run


def log(arm: str, *logged: dict, seed: int = 0) -> pd.DataFrame:
    steps = pd.DataFrame({"step": [row.pop("step") for row in logged]}, dtype="Int64").assign(tokens=0)
    steps["tokens"] = steps["tokens"].astype("Int64")
    data = pd.concat([steps, frame(METRICS_LOG, logged)], axis=1)
    return with_run(data, run=f"{arm}/seed-{seed}", arm=arm, seed=seed)


def checked(*logs: pd.DataFrame, **about: object) -> pd.DataFrame:
    run = Taught(**{"arm": "dpt", "seed": 0, "teacher": "t", "baseline": "spt", "routing": None, **about})  # type: ignore[arg-type]
    return manipulation_checks(pd.concat(logs, ignore_index=True), [run]).set_index("check")


def kl(step: int, value: float, **where: object) -> dict:
    return metrics.KL.row(value, step=step, occurrence=ORDINARY, **where)


def teacher(kl: float | None, mass: float, step: int = 0) -> list[dict]:
    rows = [metrics.TEACHER_MISSING.row(0.3 if kl is None else 0.0, step=step)]
    rows += [] if kl is None else [metrics.TEACHER_KL.row(kl, step=step, occurrence=ORDINARY)]
    return [*rows, metrics.TEACHER_COPY_MASS.row(mass, step=step, occurrence=LATER)]


SPT = log("spt", kl(0, 2.0), kl(50, 0.01), kl(50, 9.0, bucket=3))


@pytest.mark.parametrize(
    ("teacher_kl", "mass", "passed"),
    [
        (0.005, 0.6, (True, True)),
        (0.0051, 0.9, (False, True)),
        (0.001, 0.91, (True, False)),
        (None, 0.59, (False, False)),
    ],
)
def test_a_teacher_is_held_against_its_undistilled_twin(
    teacher_kl: float | None, mass: float, passed: tuple[bool, bool]
) -> None:
    other = log("spt", kl(50, 1e9), seed=1)
    table = checked(SPT, other, log("dpt", *teacher(teacher_kl, mass), kl(50, 7.0)))
    rows, copying = table.loc["teacher-rows"], table.loc["teacher-copying"]
    assert rows["value"] == (math.inf if teacher_kl is None else pytest.approx(teacher_kl / 0.01))
    assert copying["value"] == mass
    assert (rows["passed"], copying["passed"]) == passed
    assert (rows["high"], copying["low"], copying["high"]) == (0.5, 0.6, 0.9)
    assert pd.isna(rows["low"])
    assert len(table) == 2, "nothing about routing where nothing is routed"


def test_a_teacher_that_changes_is_taken_as_it_ends() -> None:
    table = checked(SPT, log("dpt", *teacher(0.5, 0.1), *teacher(0.004, 0.7, step=50)))
    assert table["value"].tolist() == pytest.approx([0.4, 0.7])


def test_without_its_twin_nobody_knows_and_without_triggers_there_is_nothing_to_know() -> None:
    missing = checked(log("dpt", *teacher(0.004, 0.7)), baseline=None).loc["teacher-rows"]
    assert math.isnan(missing["value"])
    assert missing["passed"] is pd.NA
    plain = checked(SPT, log("dpt", *teacher(0.004, 0.7)[:2]))
    assert plain.index.tolist() == ["teacher-rows"]


@pytest.mark.parametrize("both", [5, 20, 24])
def test_routing_has_to_beat_a_random_choice_twice(both: int) -> None:
    """Of 1000 positions 100 are copyable and 120 routed; at random 12 were both, and 24 are twice as many."""
    rows = [
        metrics.ROUTED.row(0.12, step=50),
        metrics.ROUTING_PRECISION.row(both / 120, step=50),
        metrics.ROUTING_RECALL.row(both / 100, step=50),
    ]
    table = checked(SPT, log("dpt", *teacher(0.004, 0.7), *map(dict, rows)), routing="informed")
    assert table.loc["routing-gain", "value"] == pytest.approx((both / 120) / (100 / 1000))
    assert table.loc["routing-gain", "passed"] == (both >= 24)
    assert table.loc["realised-precision", "value"] == both / 120
    assert table.loc["realised-recall", "value"] == both / 100
    assert table.loc["realised-recall", "passed"] is pd.NA
    for other in ("blind", "opposite"):
        table = checked(SPT, log("dpt", *teacher(0.004, 0.7), *map(dict, rows)), routing=other)
        assert "routing-gain" not in table.index, "who does not mean to route copies has nothing to pass"
        assert "realised-precision" in table.index
