"""Verdicts on tables that are built to support, contradict, leave open, and not test each claim."""

import numpy as np
import pandas as pd
import pytest

from mechdistill.circuits.scores import TRIGGER_LOOKUP
from mechdistill.stats import Case, scorecard
from mechdistill.stats._effects import FORMED, LAST, Estimate, difference, value
from mechdistill.stats._roles import SPT, Role
from mechdistill.stats._scorecard import verdict
from mechdistill.stats.claims import (
    CLAIMS,
    DISTINCT,
    LOW_RATIO,
    PASS_1,
    PASS_16,
    PASS_MATCHED,
    ROOM_1,
    ROOM_16,
    ROW_GAIN,
    SUPPORT_SLOPE,
    TOP_GAIN,
    VALID,
    Criterion,
    Threshold,
    Within,
)
from mechdistill.tables.metrics import COPY_EXCESS, FORMATION, KL, TEACHER_KL, TEACHER_MISSING

# role -> quantity -> mean over seeds: what the paper claims, written down by hand
_LOOKUP, _TIME, _EXCESS = TRIGGER_LOOKUP.name, FORMATION.name, COPY_EXCESS.name
_TEACHER = {"teacher-rows": 0.1, "teacher-copying": 0.75}
_FORMS = {FORMED: 1, LAST: 4e6}
_LATER = {
    "dpt-90": {**_TEACHER, **_FORMS, _TIME: 3e6, _LOOKUP: 0.5},
    "spt": {**_FORMS, _TIME: 2e6, _LOOKUP: 0.9},
}
Means = dict[str, dict[str, float]]
AS_CLAIMED: dict[str, Means] = {
    "C1": {"dpt-90, oracle": {TEACHER_KL.name: 0, ROW_GAIN: 0.5, TOP_GAIN: 2.0}, "spt": {KL.name: 0.02}},
    "C2": {"dpt-90, oracle": {TEACHER_KL.name: 0, LOW_RATIO: 1.01}, "spt": {KL.name: 0.01}},
    "C3": {"dpt-90": {**_TEACHER, _EXCESS: 0.4}, "spt": {_EXCESS: 0.1}},
    "C4": _LATER,
    "C4b": {"dpt-90": _LATER["dpt-90"], "spt-downweight": _LATER["spt"]},
    "C5": {
        "dpt-90, oracle": {TEACHER_KL.name: 0, PASS_MATCHED: 0.5, PASS_16: 0.5},
        "spt": {PASS_MATCHED: 0.4, ROOM_16: 0.2},
        "dpt-90, permuted oracle": {PASS_16: 0.3},
    },
    "C6": {"dpt-90, oracle": {TEACHER_KL.name: 0, PASS_16: 0.5}, "spt-2x": {PASS_16: 0.45, ROOM_16: 0.2}},
    "C7": {"dpt-90, oracle": {TEACHER_KL.name: 0, DISTINCT: 0.22, VALID: 0.99}, "spt": {DISTINCT: 0.2, VALID: 0.99}},
    "C8": {
        "dpt-90": {**_TEACHER, _EXCESS: 0.5},
        "spt": {_EXCESS: 0.1},
        "routed 15 %": {"routing-gain": 3, _EXCESS: 0.3, KL.name: 0.01},
        "routed 30 %": {_EXCESS: 0.3, KL.name: 0.012},
        "routed at random": {_EXCESS: 0.48},
    },
    "C9": {
        "dpt-90, tilted": {TEACHER_KL.name: 0.3, PASS_1: 0.2},
        "dpt-90, late": {TEACHER_KL.name: 0.01, PASS_1: 0.1, ROOM_1: 0.2},
    },
    "C10": {
        "dpt-90, top 1": {TEACHER_MISSING.name: 0.5, PASS_1: 0.2, PASS_16: 0.5},
        "spt": {PASS_1: 0.1, PASS_16: 0.4, ROOM_1: 0.2},
    },
    "C11": {
        "dpt-90, same data": {_EXCESS: 0.4},
        "spt": {_EXCESS: 0.1},
        "dpt-90, same data, at half": {_EXCESS: 0.3},
        "spt at half": {_EXCESS: 0.3},
    },
    "C12": {"taught by the oracle alone": {TEACHER_KL.name: 0, SUPPORT_SLOPE: 1.0}, "spt": {KL.name: 0.1}},
}
# what is otherwise where the opposite is found, of one criterion each
AGAINST: dict[str, Means] = {
    "C1": {"dpt-90, oracle": {ROW_GAIN: -0.5}},
    "C2": {"dpt-90, oracle": {LOW_RATIO: 0.5}},
    "C3": {"dpt-90": {_EXCESS: 0.12}},
    "C4": {"dpt-90": {_TIME: 1.5e6}},
    "C4b": {"dpt-90": {_LOOKUP: 0.89}},
    "C5": {"dpt-90, permuted oracle": {PASS_16: 0.6}},
    "C6": {"spt-2x": {PASS_16: 0.6}},
    "C7": {"dpt-90, oracle": {VALID: 0.9}},
    "C8": {"routed 30 %": {_EXCESS: 0.15}},
    "C9": {"dpt-90, late": {PASS_1: 0.195}},
    "C10": {"spt": {PASS_16: 0.55}},
    "C11": {"spt at half": {_EXCESS: 0.1}},
    "C12": {"taught by the oracle alone": {SUPPORT_SLOPE: 0.1}},
}
FAILING: dict[str, Means] = {
    **{name: {"dpt-90, oracle": {TEACHER_KL.name: 0.2}} for name in ("C1", "C2", "C6", "C7")},
    **{name: {"dpt-90": {"teacher-copying": 0.99}} for name in ("C3", "C4")},
    "C4b": {"dpt-90": {"teacher-rows": 2.0}},
    "C5": {"spt": {ROOM_16: 0.01}},
    "C8": {"routed 15 %": {"routing-gain": 1.1}},
    "C9": {"dpt-90, tilted": {TEACHER_KL.name: 0.01}},
    "C10": {"dpt-90, top 1": {TEACHER_MISSING.name: 0.0}},
    "C12": {"taught by the oracle alone": {TEACHER_KL.name: 0.2}},
}
_NO_NOISE = {
    TEACHER_KL.name,
    TEACHER_MISSING.name,
    "teacher-rows",
    "teacher-copying",
    "routing-gain",
    FORMED,
    LAST,
    ROOM_1,
    ROOM_16,
}


def merged(base: Means, changes: Means) -> Means:
    return {role: {**of, **changes.get(role, {})} for role, of in base.items()}


def table(means: Means, seeds: int, spread: float) -> pd.DataFrame:
    """Runs that scatter around these means, each by its own luck, with a standard deviation of `spread` times them."""
    rng = np.random.default_rng(5)
    rows = [
        {"role": role, "seed": seed, "quantity": quantity, "value": mean * (1 + luck)}
        for role, of in means.items()
        for quantity, mean in of.items()
        for seed, luck in enumerate(rng.normal(0, 0 if quantity in _NO_NOISE else spread, seeds))
    ]
    return pd.DataFrame(rows)


def judged(claim: str, means: Means, *, seeds: int = 10, spread: float = 0.004) -> pd.DataFrame:
    """The claim's lines of a scorecard that has this case alone."""
    values = table(means, seeds, spread)
    result = scorecard(
        {claim: Case({role: f"arm of {role}" for role in means}, values, values.iloc[:0], frozenset(means))}
    )
    others = result[result["claim"] != claim]
    assert set(others["verdict"]) == {"not tested"}
    return result[result["claim"] == claim]


def test_every_claim_of_the_design_is_there_with_a_case_here() -> None:
    assert [claim.name for claim in CLAIMS if claim.name != "C4b"] == [f"C{i}" for i in range(1, 13)]
    assert {claim.name for claim in CLAIMS} == set(AS_CLAIMED) == set(AGAINST)
    assert {claim.name for claim in CLAIMS if claim.checks} == set(FAILING)


@pytest.mark.parametrize("claim", [claim.name for claim in CLAIMS])
def test_a_claim_is_supported_contradicted_left_open_or_not_tested(claim: str) -> None:
    means = AS_CLAIMED[claim]
    supported = judged(claim, means)
    assert set(supported["verdict"]) == set(supported["claim_verdict"]) == {"supported"}, supported.T.to_string()
    assert (supported["low"] <= supported["effect"]).all()
    assert (supported["n"] == 10).all()

    against = judged(claim, merged(means, AGAINST[claim]))
    assert set(against["claim_verdict"]) == {"contradicted"}, against.T.to_string()
    assert "contradicted" in set(against["verdict"])

    noisy = judged(claim, means, spread=3.0)
    assert set(noisy["claim_verdict"]) == {"inconclusive"}, noisy.T.to_string()

    for few in (1, 2):
        assert set(judged(claim, means, seeds=few)["verdict"]) == {"inconclusive"}, "one seed is no finding"
        assert judged(claim, means, seeds=few)["note"].str.contains("fewer than 3").all()

    absent = judged(claim, dict(list(means.items())[:-1]))
    assert set(absent["claim_verdict"]) == {"not tested"}
    assert absent["note"].str.startswith("no arm ").all()

    if claim in FAILING:
        failed = judged(claim, merged(means, FAILING[claim]))
        assert set(failed["verdict"]) == {"not tested"}
        assert failed["note"].str.startswith("manipulation check failed: ").all()
        assert failed["check"].str.contains("fails").all()


def test_effects_are_what_can_be_computed_by_hand() -> None:
    result = judged("C8", AS_CLAIMED["C8"], spread=0).set_index("criterion")["effect"]
    expected = {  # excess: dpt .5, spt .1, routed .3 and .3, at random .48; KL .01 and .012
        "recovered at 15 % >= 0.25": 0.2 / 0.4,
        "more than at random >= 0": 0.18 / 0.4,
        "recovered at 30 % less 15 % within -0.1 and 0.1": 0.0,
        "bigram KL at 30 % over 15 % >= 1.05": 1.2,
    }
    assert result.to_dict() == pytest.approx(expected)
    eleven = judged("C11", AS_CLAIMED["C11"], spread=0).set_index("criterion")["effect"]
    assert list(eleven) == pytest.approx([0.0, 0.3, 0.3])
    four = judged("C4", AS_CLAIMED["C4"], spread=0)["effect"]
    assert list(four) == pytest.approx([1.5, -0.4])


def test_a_run_that_has_not_formed_counts_as_the_horizon_and_where_none_has_there_is_nothing() -> None:
    late = merged(AS_CLAIMED["C4"], {"dpt-90": {FORMED: 0, _TIME: 4e6}})
    assert judged("C4", late, spread=0)["effect"].iloc[0] == pytest.approx(2.0)
    never = merged(late, {"spt": {FORMED: 0, _TIME: 4e6}})
    found = judged("C4", never)
    assert found["verdict"].iloc[0] == "not tested"
    assert found["note"].iloc[0] == "not measured"


@pytest.mark.parametrize(
    ("rule", "low", "effect", "high", "expected"),
    [
        (Threshold(0.1), 0.02, 0.11, 0.2, "supported"),  # excludes 0, and reaches the threshold
        (Threshold(0.1), 0.02, 0.09, 0.16, "inconclusive"),  # an effect, but is it large enough?
        (Threshold(0.1), -0.02, 0.11, 0.24, "inconclusive"),
        (Threshold(0.1), 0.02, 0.05, 0.09, "contradicted"),  # an effect, and too small
        (Threshold(0.1), -0.5, -0.3, -0.2, "contradicted"),
        (Threshold(-0.1, "<="), -0.4, -0.2, -0.05, "supported"),
        (Threshold(-0.1, "<="), -0.09, -0.05, 0.0, "contradicted"),
        (Threshold(1.25, none=1), 1.1, 1.3, 1.5, "supported"),
        (Threshold(1.25, none=1), 0.9, 1.3, 1.7, "inconclusive"),
        (Within(0.87, 1.15), 0.9, 1.0, 1.1, "supported"),
        (Within(0.87, 1.15), 0.8, 1.0, 1.1, "inconclusive"),
        (Within(0.87, 1.15), 0.5, 0.6, 0.8, "contradicted"),
        (Within(low=-0.005), -0.004, 0.1, 0.2, "supported"),
        (Within(high=0.05), 0.06, 0.1, 0.2, "contradicted"),
        (Threshold(0.1), np.nan, 0.5, np.nan, "inconclusive"),
    ],
)
def test_verdicts_of_intervals(rule: Threshold | Within, low: float, effect: float, high: float, expected: str) -> None:
    assert verdict(Criterion("it", value(SPT, KL.name), rule), Estimate(effect, low, high, 10)) == expected


def test_checks_are_of_the_seeds_that_the_effect_is_of_and_failures_do_not_average_out() -> None:
    values = table(AS_CLAIMED["C3"], 5, 0.004)

    def note(copying: dict[int, float]) -> str:
        rows = [{"role": "dpt-90", "seed": s, "quantity": "teacher-copying", "value": v} for s, v in copying.items()]
        changed = pd.concat([values[values["quantity"] != "teacher-copying"], pd.DataFrame(rows)], ignore_index=True)
        cast = {"dpt-90": "a", "spt": "b"}
        result = scorecard({"C3": Case(cast, changed, values.iloc[:0], frozenset(cast))})
        line = result[result["claim"] == "C3"].iloc[0]
        return str(line["note"]) if line["verdict"] == "not tested" else str(line["verdict"])

    assert note(dict.fromkeys(range(5), 0.75)) == "supported"
    assert "not measured of 4 of 5 seeds" in note({0: 0.75})
    assert "not measured" in note({10: 0.75, 11: 0.75})
    assert "1 of 5 seeds, fails" in note(dict(enumerate((0.1, 1.0, 1.0, 1.0, 0.9))))
    assert note(dict(enumerate((0.59, 0.75, 0.75, 0.75, 0.75)))) == "supported"


def test_only_seeds_that_all_arms_have_count_and_the_null_has_verdicts_of_its_own() -> None:
    arm = Role("dpt-90", lambda _: True)
    values = table(AS_CLAIMED["C3"], 6, 0.004)
    values = values[~((values["role"] == "spt") & (values["seed"] == 2))]
    nobody = table({"dpt-90": {_EXCESS: 4.0}, "spt": {_EXCESS: 4.0}}, 6, 0.001)
    result = scorecard({"C3": Case({"dpt-90": "a", "spt": "b"}, values, nobody, frozenset({"dpt-90", "spt"}))})
    line = result[result["claim"] == "C3"].iloc[0]
    assert (line["n"], line["verdict"], line["null_n"], line["null_verdict"]) == (5, "supported", 6, "contradicted")
    by_hand = values[values["quantity"] == _EXCESS].pivot(index="seed", columns="role", values="value").dropna()
    assert line["effect"] == pytest.approx((by_hand["dpt-90"] - by_hand["spt"]).mean())
    assert difference(arm, SPT, _EXCESS).roles == (arm, SPT)
    assert line["arms"] == "dpt-90: a, spt: b"
