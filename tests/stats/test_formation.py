import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.errors import MechdistillError
from mechdistill.stats import (
    formation_ratio,
    formation_steps,
    paired,
    ratio_of_means,
    restricted_mean,
    restricted_steps,
)


def curve(values: list[float], arm: str = "spt", seed: int = 0, every: int = 50) -> pd.DataFrame:
    return pd.DataFrame({"arm": arm, "seed": seed, "step": np.arange(len(values)) * every, "value": values})


def formation(**steps: list[tuple[int, bool]]) -> pd.DataFrame:
    """Arms given as (step, formed) by seed."""
    rows = [(arm, seed, *run) for arm, runs in steps.items() for seed, run in enumerate(runs)]
    return pd.DataFrame(rows, columns=["arm", "seed", "step", "formed"]).astype({"formed": "boolean"})


@pytest.mark.parametrize(
    ("values", "step", "formed"),
    [
        ([0, 0.2, 0.9, 0.9, 0.9, 0.1], 100, True),
        ([0, 0.5, 0.5, 0.5], 50, True),  # at the threshold is past it
        ([0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9], 150, True),  # two are a spike
        ([1, 1, 1], 0, True),
        ([0.9, 0.9, 0.1, 0.9, 0.9], 200, False),
        ([0, 0, 0, 0], 150, False),
        ([1, 1], 50, False),
        ([1], 0, False),
    ],
)
def test_the_first_of_three_consecutive_evaluations(values: list[float], step: int, formed: bool) -> None:
    table = formation_steps(curve(values), 0.5)
    last = 50 * (len(values) - 1)
    assert table.to_dict("records") == [{"arm": "spt", "seed": 0, "step": step, "formed": formed, "last": last}]


def test_every_run_by_itself_in_any_order_of_rows() -> None:
    curves = pd.concat([curve([0, 1, 1, 1]), curve([0, 0, 0, 1, 1, 1], "dpt"), curve([1, 0, 1, 0], "dpt", 1)])
    table = formation_steps(curves.sample(frac=1, random_state=0), 0.5).set_index(["arm", "seed"])
    assert table["step"].to_dict() == {("spt", 0): 50, ("dpt", 0): 150, ("dpt", 1): 150}
    assert table["formed"].to_dict() == {("spt", 0): True, ("dpt", 0): True, ("dpt", 1): False}
    assert len(formation_steps(curves.iloc[:0], 0.5)) == 0


def test_curves_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(MechdistillError, match="arm spt, seed 0, step 50, value nan: must be finite"):
        formation_steps(curve([0, math.nan, 1]), 0.5)
    with pytest.raises(MechdistillError, match="arm spt, seed 0, step 0, value 0: must appear once"):
        formation_steps(pd.concat([curve([0, 1]), curve([0, 1])]), 0.5)


def test_kaplan_meier_by_hand() -> None:
    """At 2 one of 5 forms (S = .8), at 3 one is censored, at 4 one of 3 (S = .533), at 6 one of 2 (S = .267)."""
    times, observed = [2, 3, 4, 6, 9], [True, False, True, True, False]
    area = 2 * 1 + 2 * 0.8 + 2 * 0.8 * 2 / 3
    assert restricted_mean(times, observed, 6) == pytest.approx(area)
    assert restricted_mean(times, observed, 9) == pytest.approx(area + 3 * 0.8 * 2 / 3 / 2)
    assert restricted_mean(times, observed, 1) == 1
    with pytest.raises(MechdistillError, match=r"horizon=10: no run was followed that far; choose .* at most 9"):
        restricted_mean(times, observed, 10)


def test_a_run_that_forms_when_another_ends_is_counted_among_those_at_risk() -> None:
    assert restricted_mean([5, 5, 8], [True, False, True], 8) == pytest.approx(5 + 3 * 2 / 3)


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=12), st.integers(1, 100))
def test_without_early_ends_the_restricted_mean_is_the_plain_one(runs: list, horizon: int) -> None:
    times = [t if formed else max(t, horizon) for t, formed in runs]
    observed = [formed for _, formed in runs]
    assert restricted_mean(times, observed, horizon) == pytest.approx(np.minimum(times, horizon).mean())


def test_restricted_steps_are_fully_observed_or_refused() -> None:
    table = formation(spt=[(100, True), (900, True)], dpt=[(700, True), (800, False)])
    values = restricted_steps(table, 800)
    assert values["value"].tolist() == [100, 800, 700, 800]
    assert list(values) == ["arm", "seed", "metric", "value"]
    with pytest.raises(MechdistillError, match=r"horizon=801: arm 'dpt', seed 1 had not formed .* at most 800"):
        restricted_steps(table, 801)


def test_teachers_neither_enter_nor_limit_the_horizon() -> None:
    table = formation(**{"spt": [(100, True)], "teacher:half-formed": [(50, False)]})
    assert restricted_steps(table, 800)["arm"].tolist() == ["spt"]


def test_the_ratio_pairs_twins_and_looks_at_its_two_arms_only() -> None:
    spt, dpt = [100, 220, 310, 390], [130, 250, 420, 500]
    table = formation(spt=[(t, True) for t in spt] + [(7, True)], dpt=[(t, True) for t in dpt], short=[(10, False)] * 4)
    found = formation_ratio(table.sample(frac=1, random_state=1), "dpt", "spt", 450)
    assert found.n == 4
    assert found.ratio == pytest.approx((130 + 250 + 420 + 450) / sum(spt))
    assert found == pytest.approx(ratio_of_means(np.minimum(dpt, 450), spt))
    with pytest.raises(MechdistillError, match="arm 'stp': no run to compare with; did you mean 'spt'"):
        formation_ratio(table, "dpt", "stp", 450)


@given(st.integers(0, 10_000), st.integers(3, 12), st.sampled_from([0.8, 0.95, 0.99]))
def test_the_ends_of_the_ratio_are_where_the_paired_test_stops_rejecting(seed: int, n: int, level: float) -> None:
    rng = np.random.default_rng(seed)
    baseline = rng.uniform(8, 10, n)
    arm = 1.3 * baseline + rng.normal(size=n)
    found = ratio_of_means(arm, baseline, level)
    assert found.low < found.ratio < found.high
    for end in (found.low, found.high):
        assert paired(arm - end * baseline).p == pytest.approx(1 - level, rel=1e-5)
    swapped = ratio_of_means(baseline, arm, level)
    if found.low > 0:  # else the arm may be zero, and baseline / arm anything
        assert (swapped.low, swapped.high) == pytest.approx((1 / found.high, 1 / found.low))
    else:
        assert math.isnan(swapped.low)


@pytest.mark.parametrize(
    ("values", "baseline", "ratio"),
    [
        ([], [], math.nan),
        ([2.0, 4.0], [1.0, 2.0], 2),
        ([2.0, 4.0, 7.0], [0.0, 0.0, 0.0], math.nan),
        ([5.0, 5.0, 5.0], [5.0, 5.0, 5.0], 1),  # no run formed by the horizon
        ([3.0, 6.0, 9.0], [1.0, 2.0, 3.0], 3),
        ([2.0, 4.0, 7.0], [-1.0, 5.0, -1.0], 13 / 3),  # the baseline may be zero, so any ratio may be true
    ],
)
def test_a_ratio_without_an_interval(values: list[float], baseline: list[float], ratio: float) -> None:
    found = ratio_of_means(values, baseline)
    assert found.ratio == pytest.approx(ratio, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
