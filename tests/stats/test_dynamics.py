"""Formation, rise and order of logistic curves, whose answers are closed forms; predictors that know, and do not."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mechdistill.errors import MechdistillError
from mechdistill.stats import compare_dynamics, dynamics, early_warning, held_out_predictions, rise_time
from mechdistill.tables import DYNAMICS, DYNAMICS_TWINS, EARLY_WARNING

EVERY, LAST = 5, 1000
STEPS = np.arange(0, LAST + 1, EVERY)
PARTS = ("first-half", "second-half", "use")


def logistic(middle: float, rate: float = 0.05, height: float = 1.0) -> np.ndarray:
    return height / (1 + np.exp(-rate * (STEPS - middle)))


def curve(metric: str, values: np.ndarray, arm: str = "spt", seed: int = 0, steps: np.ndarray = STEPS) -> pd.DataFrame:
    about = {"run": f"{arm}/seed-{seed}", "arm": arm, "seed": seed, "metric": metric}
    return pd.DataFrame({**about, "step": steps, "tokens": steps * 64, "value": values})


def table(curves: list[pd.DataFrame], thresholds: dict[str, float] | None = None) -> pd.DataFrame:
    shuffled = pd.concat(curves).sample(frac=1, random_state=0)
    return dynamics(shuffled, PARTS, "use", thresholds or {}, least=0.1)


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
def test_a_logistic_curve_rises_in_two_ln_nine_over_its_rate(rate: float) -> None:
    assert rise_time(STEPS, logistic(500, rate)) == pytest.approx(2 * math.log(9) / rate, rel=0.02)


def test_rise_times_by_hand() -> None:
    assert rise_time([0, 100], [0, 1]) == pytest.approx(80)
    assert rise_time([0, 10, 20, 30], [0, 0, 1, 1]) == pytest.approx(8)
    assert rise_time([0, 10, 20, 30, 40], [0, 0.5, 0, 1, 1]) == pytest.approx(8)  # a spike before is no beginning
    assert rise_time([0, 10, 20], [0, 2, 1]) == pytest.approx(0.8 * 5)  # above its end on the way
    assert rise_time([0, 1], [1.0, 1.0 + 2**-52]) <= 1
    for flat in ([1.0, 1.0], [1.0, 0.5], [1.0], []):
        assert math.isnan(rise_time(range(len(flat)), flat))


def test_formation_order_and_lead_of_known_curves() -> None:
    curves = [
        curve("first-half", logistic(303, height=0.4)),
        curve("second-half", logistic(402)),
        curve("use", logistic(447)),
        curve("bystander", logistic(200)),
        curve("never", logistic(300, height=0.09)),
    ]
    found = table(curves).set_index("metric")
    assert list(found.reset_index()[[c.name for c in DYNAMICS.columns]]) == [c.name for c in DYNAMICS.columns]
    assert found["crossing"].round(1).dropna().to_dict() == {
        "first-half": 303, "second-half": 402, "use": 447, "bystander": 200
    }  # fmt: skip
    assert found.loc["first-half", ["before", "step", "tokens", "last"]].tolist() == [300, 305, 305 * 64, LAST]
    assert found["threshold"].round(3).dropna().to_dict() == {
        "first-half": 0.2, "second-half": 0.5, "use": 0.5, "bystander": 0.5
    }  # fmt: skip
    assert found["order"].dropna().to_dict() == {"first-half": 1, "second-half": 2, "use": 3}
    assert found["lead"].round(1).dropna().to_dict() == {"first-half": 144, "second-half": 45, "bystander": 247}
    assert not found.loc["never", "formed"]
    assert found.loc["never", "step"] == LAST
    assert found.loc["never", ["rise", "crossing", "threshold", "before"]].isna().all()
    alone = table(curves[:3]).set_index("metric")
    pd.testing.assert_frame_equal(found.loc[list(PARTS)].sort_index(), alone.sort_index())


def test_a_stated_threshold_is_the_same_for_all_runs() -> None:
    curves = [curve("use", logistic(400, height=h), seed=seed) for seed, h in enumerate((1.0, 0.8, 0.5))]
    found = table(curves, {"use": 0.6}).sort_values("seed")
    assert found["formed"].tolist() == [True, True, False]
    at = [400 + 20 * math.log(0.6 / (h - 0.6)) for h in (1.0, 0.8)]  # height/(1 + e^-r(t-m)) = .6
    assert found["crossing"].tolist()[:2] == pytest.approx(at, abs=0.5)
    assert found["threshold"].tolist() == [0.6] * 3


def test_what_is_there_from_the_start_forms_at_step_0_and_has_no_evaluation_before() -> None:
    found = table([curve("use", np.ones(len(STEPS)))]).iloc[0]
    assert (found["step"], found["crossing"]) == (0, 0)
    assert pd.isna(found["before"])
    assert pd.isna(found["rise"])


def test_curves_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(MechdistillError, match=r"metric use, run spt/seed-0, step \d+, value nan: must be finite"):
        table([curve("use", np.full(len(STEPS), np.nan))])


def test_differences_between_twins_are_those_of_the_paired_test() -> None:
    rng = np.random.default_rng(0)
    middles = {arm: rng.uniform(300, 500, 5) + shift for arm, shift in (("spt", 0), ("dpt", -60), ("other", 300))}
    rates = {"spt": 0.05, "dpt": 0.1, "other": 0.05}
    curves = [
        part
        for arm, of_arm in middles.items()
        for seed, middle in enumerate(of_arm)
        for part in (
            curve("second-half", logistic(middle, rates[arm]), arm, seed),
            curve("use", logistic(middle + (40 if arm == "spt" else 70)), arm, seed),
        )
    ]
    curves.append(curve("use", logistic(100), "teacher:late"))
    found = compare_dynamics(table(curves), "spt", PARTS)
    assert list(found) == [column.name for column in DYNAMICS_TWINS.columns]
    assert set(found["arm"]) == {"dpt", "other"}
    row = found[(found["arm"] == "dpt") & (found["metric"] == "second-half")].set_index("what")
    expected = scipy_stats.ttest_rel(middles["dpt"], middles["spt"])
    interval = expected.confidence_interval()
    assert row.loc["crossing", "difference"] == pytest.approx(np.mean(middles["dpt"] - middles["spt"]), abs=0.5)
    assert row.loc["crossing", ["low", "high"]].tolist() == pytest.approx([interval.low, interval.high], abs=1)
    assert row.loc["rise", "difference"] == pytest.approx(2 * math.log(9) * (1 / 0.1 - 1 / 0.05), abs=1)
    assert row.loc["lead", "difference"] == pytest.approx(30, abs=0.5)
    assert row["p_holm"].notna().tolist() == [True, False, False]
    fewer = compare_dynamics(table([c for c in curves if (c["arm"] != "other").all()]), "spt", PARTS)
    same = found[found["arm"] == "dpt"].reset_index(drop=True).drop(columns="p_holm")
    pd.testing.assert_frame_equal(fewer.drop(columns="p_holm"), same)
    with pytest.raises(MechdistillError, match="arm 'stp': no run to compare with"):
        compare_dynamics(table(curves), "stp", PARTS)


def test_a_run_that_does_not_form_counts_as_the_end_and_is_counted() -> None:
    curves = [curve("use", logistic(400, height=h), arm, s) for arm in ("spt", "dpt") for s, h in enumerate((1, 1, 1))]
    curves[5] = curve("use", logistic(400, height=0.3), "dpt", 2)
    row = compare_dynamics(table(curves, {"use": 0.5}), "spt", PARTS).set_index("what").loc["crossing"]
    assert (row["censored"], row["baseline_censored"], row["horizon"]) == (1, 0, LAST)
    assert row["difference"] == pytest.approx((LAST - 400) / 3, abs=0.5)


def seeds(n: int, arm: str = "spt", seed: int = 0, knows: bool = True) -> pd.DataFrame:
    """Copying forms at a step of each seed's own; a predictor says it from the start, or is noise."""
    rng = np.random.default_rng(seed)
    parts: list[pd.DataFrame] = []
    for number in range(n):
        middle = rng.uniform(400, 800)
        hint = 0.3 - middle / 4000 if knows else rng.uniform()
        parts += [
            curve("use", logistic(middle), arm, number),
            curve("hint", hint * np.linspace(0.5, 1, len(STEPS)), arm, number),
        ]
    return pd.concat(parts, ignore_index=True)


def warned(curves: pd.DataFrame) -> pd.DataFrame:
    formation = dynamics(curves, PARTS, "use", {"use": 0.5}, least=0.1)
    return early_warning(curves, formation[formation["metric"] == "use"])


def test_a_predictor_that_knows_has_no_error_and_the_baseline_is_the_mean_of_the_others() -> None:
    curves = pd.concat([seeds(6), curve("use", logistic(1), "teacher:late")])
    found = warned(curves)
    assert list(found) == [column.name for column in EARLY_WARNING.columns]
    assert set(found["arm"]) == {"spt"}
    rows = found[found["metric"] == "hint"]
    assert rows["share"].tolist() == [0.1, 0.2, 0.3]
    assert rows["seen"].tolist() == [100, 200, 300]
    rng = np.random.default_rng(0)
    middles = np.array([rng.uniform(400, 800) for _ in range(6)])
    others = np.array([np.delete(middles, i).mean() for i in range(6)])
    assert rows["baseline_error"].tolist() == pytest.approx([np.abs(others - middles).mean()] * 3, abs=0.5)
    assert rows["error"].max() < 1
    assert rows["skill"].min() > 0.99
    assert rows["p"].tolist() == pytest.approx([1 / 720] * 3)
    assert rows["p_holm"].tolist() == pytest.approx([6 / 720] * 3)
    assert (rows["already"] == 0).all()


def test_a_predictor_that_knows_nothing_is_no_better_than_the_mean_and_its_p_is_uniform() -> None:
    found = pd.concat([warned(seeds(5, seed=seed, knows=False)) for seed in range(40)])
    hints = found[(found["metric"] == "hint") & (found["share"] == 0.2)]
    assert hints["skill"].median() < 0.05
    assert scipy_stats.kstest(hints["p"], "uniform").pvalue > 0.01


def test_held_out_predictions_are_those_of_polyfit() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(3, 7)), rng.normal(size=7)
    for row in x:
        brute = [np.polyval(np.polyfit(np.delete(row, i), np.delete(y, i), 1), row[i]) for i in range(7)]
        assert held_out_predictions(row, y) == pytest.approx(brute)
    assert held_out_predictions(x, y)[1] == pytest.approx(held_out_predictions(x[1], y))
    for nearly in (0.0, 1e-8):  # what float32 leaves of two equal scores is no slope
        others_alike = [1.0, nearly, 0.0, 0.0]
        assert held_out_predictions(others_alike, [9.0, 1.0, 2.0, 3.0])[0] == pytest.approx(2)


def test_an_evaluation_that_only_some_seeds_have_says_nothing_about_when_they_form() -> None:
    """A burst is stored where copying is about to move: that it is there must not be what predicts."""
    rng = np.random.default_rng(0)
    ps: list[float] = []
    for _ in range(60):
        parts: list[pd.DataFrame] = []
        for number in range(6):
            middle = rng.uniform(305, 800)
            drift = STEPS / 1000 + rng.normal(size=len(STEPS)) * 1e-3  # the same for every seed: it knows nothing
            kept = (STEPS % 100 == 0) | ((STEPS > 200) & (STEPS < 300) & (middle < 450))
            parts += [
                curve("use", logistic(middle), "spt", number),
                curve("drift", drift[kept], "spt", number, STEPS[kept]),
            ]
        curves = pd.concat(parts)
        formation = dynamics(curves, PARTS, "use", {"use": 0.5}, least=0.1)
        found = early_warning(curves, formation[formation["metric"] == "use"], [0.295])
        row = found[found["metric"] == "drift"].iloc[0]
        assert row["seen"] == 200
        ps.append(row["p"])
    assert np.mean(np.array(ps) <= 0.1) < 0.25
    assert 0.35 < np.mean(ps) < 0.65


def test_skill_by_chance_is_that_of_a_predictor_that_knows_nothing() -> None:
    rows = pd.concat([warned(seeds(5, seed=s, knows=False)).query("metric == 'hint'") for s in range(40)])
    assert rows["by_chance"].mean() == pytest.approx(rows["skill"].mean(), abs=0.15)
    assert rows["by_chance"].mean() < -0.1


def test_a_burst_refines_a_step_and_decides_nothing() -> None:
    steps = np.array([0, 100, 110, 120, 130, 200, 300, 400, 500, 510, 520, 600, 700, 800])
    added = pd.Series(steps % 100 != 0)
    blip = np.where((steps > 100) & (steps < 200), 0.9, 0.0)  # three evaluations in a row, thirty steps long
    risen = blip + np.where(steps >= 520, 1.0, 0.0)
    for values, step in ((blip, None), (risen, 520)):
        found = dynamics(
            curve("use", values, steps=steps).assign(added=added.to_numpy()), PARTS, "use", {"use": 0.5}, least=0.1
        ).iloc[0]
        assert found["formed"] == (step is not None)
        if step is not None:
            assert (found["step"], found["before"]) == (520, 510)


def test_what_has_formed_already_is_no_early_warning() -> None:
    curves = pd.concat([curve("use", logistic(150 + 50 * s), seed=s) for s in range(4)])
    assert warned(curves)["already"].tolist() == [0, 2, 4]


def test_too_few_seeds_and_seeds_that_form_alike_get_a_note_and_no_number() -> None:
    few = warned(seeds(3))
    assert few["error"].isna().all()
    assert set(few["note"]) == {"fewer than 4 seeds: no prediction"}
    alike = pd.concat([curve("use", logistic(300, height=0.2), seed=seed) for seed in range(4)])
    found = warned(alike)  # none of them forms
    assert set(found["note"]) == {"every seed forms at the same step, or none does: nothing to predict"}
    assert (found["censored"] == 4).all()
