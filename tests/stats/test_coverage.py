"""How often the intervals cover, the tests err and the promised power holds, over simulated studies of n pairs."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mechdistill.stats import bca, formation_ratio, paired, ratio_of_means, restricted_mean, restricted_steps
from mechdistill.stats._paired import sign_flip_p

STUDIES = 4000
LAWS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "t3": lambda rng, size: rng.standard_t(3, size=size),
    "exponential": lambda rng, size: rng.exponential(size=size) - 1,
}
# coverage of 95 % intervals (paired t, BCa): the figures in the docstring of `bca`
MEASURED = {
    ("normal", 5): (0.955, 0.846),
    ("normal", 10): (0.949, 0.899),
    ("t3", 5): (0.962, 0.804),
    ("t3", 10): (0.962, 0.874),
    ("exponential", 5): (0.874, 0.792),
    ("exponential", 10): (0.896, 0.873),
}


def studies(law: str, n: int) -> np.ndarray:
    """Differences [study, n] whose true mean is zero."""
    return LAWS[law](np.random.default_rng(n), (STUDIES, n))


def near(share: float, expected: float, count: int = STUDIES) -> bool:
    """Within four Monte-Carlo standard errors."""
    return abs(share - expected) <= 4 * math.sqrt(expected * (1 - expected) / count)


def bca_coverage(d: np.ndarray) -> float:
    """The same as calling `bca` on every study, which draws the same resamples each time, but 40 at once."""
    covered = 0
    for block in np.split(d, len(d) // 40):
        found = stats.bootstrap(
            (block,), np.mean, axis=-1, method="BCa", rng=np.random.default_rng(0)
        ).confidence_interval
        assert bca(block[0]) == pytest.approx((found.low[0], found.high[0]), abs=0.01)  # up to rounded ties
        covered += int(((found.low <= 0) & (found.high >= 0)).sum())
    return covered / len(d)


def t_coverage(d: np.ndarray) -> float:
    found = stats.ttest_1samp(d, 0, axis=-1).confidence_interval(0.95)
    for i in range(20):
        assert paired(d[i])[2:4] == pytest.approx((found.low[i], found.high[i]))
    return float(((found.low <= 0) & (found.high >= 0)).mean())


@pytest.mark.parametrize(("law", "n"), MEASURED)
def test_the_t_interval_covers_at_least_as_often_as_bca(law: str, n: int) -> None:
    d = studies(law, n)
    t, bootstrap = t_coverage(d), bca_coverage(d)
    assert (t, bootstrap) == pytest.approx(MEASURED[law, n], abs=0.01)
    assert t > bootstrap
    assert law != "normal" or near(t, 0.95)


@pytest.mark.parametrize("n", [5, 10])
def test_both_tests_have_their_nominal_size(n: int) -> None:
    """The sign flip's p is a multiple of 2^(1-n), so its size at .05 is the largest such multiple up to .05."""
    d = studies("normal", n)
    t, flips = stats.ttest_1samp(d, 0, axis=-1).pvalue, sign_flip_p(d)
    for i in range(20):
        assert (paired(d[i]).p, paired(d[i]).p_sign_flip) == pytest.approx((t[i], flips[i]))
    assert near((t <= 0.05).mean(), 0.05)
    attainable = math.floor(0.05 * 2 ** (n - 1)) / 2 ** (n - 1)
    assert near((flips <= 0.05).mean(), attainable)


def test_the_sign_flip_keeps_its_size_where_differences_are_symmetric_but_not_normal() -> None:
    assert near((sign_flip_p(studies("t3", 10)) <= 0.05).mean(), 25 / 512)


@pytest.mark.parametrize("n", [3, 5, 10, 20])
def test_the_minimum_detectable_effect_is_found_four_times_in_five(n: int) -> None:
    d = studies("normal", n)
    exactly_one_sd = np.resize([1.0, -1.0], n)
    exactly_one_sd /= exactly_one_sd.std(ddof=1)
    effect = paired(exactly_one_sd).minimum_detectable
    found = stats.ttest_1samp(d + effect, 0, axis=-1).pvalue <= 0.05
    assert near(found.mean(), 0.8)


def test_the_effect_size_is_unbiased() -> None:
    d = studies("normal", 5)[:1500] + 1.0
    sizes = np.array([paired(row).effect_size for row in d])
    assert abs(sizes.mean() - 1.0) <= 4 * sizes.std() / math.sqrt(len(sizes))
    assert (d.mean(axis=1) / d.std(axis=1, ddof=1)).mean() > 1.2, "the uncorrected one is not"


def test_the_ratio_of_means_covers() -> None:
    rng = np.random.default_rng(3)
    seed_luck, own = rng.normal(size=(STUDIES, 10)), rng.normal(size=(2, STUDIES, 10))
    baseline, arm = 8 + seed_luck + own[0], 10 + seed_luck + 2 * own[1]
    found = [ratio_of_means(a, b) for a, b in zip(arm, baseline, strict=True)]
    assert near(np.mean([r.low <= 1.25 <= r.high for r in found]), 0.95)


def followed_to(horizon: float, **times: np.ndarray) -> pd.DataFrame:
    """The `formation_steps` table of arms with these true formation times [seed], all followed to the horizon."""
    arms = [
        pd.DataFrame(
            {"arm": arm, "seed": np.arange(len(t)), "step": np.minimum(t, horizon), "formed": t <= horizon}
        ).astype({"arm": "string", "formed": "boolean"})
        for arm, t in times.items()
    ]
    return pd.concat(arms, ignore_index=True)


def restricted_exponential(mean: float, horizon: float) -> float:
    return mean * (1 - math.exp(-horizon / mean))


@pytest.mark.parametrize("horizon", [0.7, 2.0])
def test_the_ratio_of_formation_times_covers_with_censored_runs(horizon: float) -> None:
    """Exponential times with means 1 and 2: in the slow arm 70 % and 37 % of the runs are censored."""
    rng = np.random.default_rng(4)
    truth = restricted_exponential(2, horizon) / restricted_exponential(1, horizon)
    covered = []
    for _ in range(400):
        formation = followed_to(horizon, spt=rng.exponential(1, 10), dpt=rng.exponential(2, 10))
        ratio = formation_ratio(formation, "dpt", "spt", horizon)
        covered.append(ratio.low <= truth <= ratio.high)
    assert near(np.mean(covered), 0.95, len(covered))


def test_the_restricted_mean_is_unbiased_under_random_censoring() -> None:
    """Exponential times of mean 1, ended at a uniform time of their own; the naive means are far off."""
    rng = np.random.default_rng(5)
    horizon, studies, runs = 1.0, 1500, 40
    means, as_formed, left_out = [], [], []
    for _ in range(studies):
        formed, ended = rng.exponential(size=runs), rng.uniform(0, 4, size=runs)
        times, observed = np.minimum(formed, ended), formed <= ended
        means.append(restricted_mean(times, observed, horizon))
        as_formed.append(np.minimum(times, horizon).mean())
        left_out.append(np.minimum(times[observed], horizon).mean())
    truth = restricted_exponential(1, horizon)
    standard_error = np.std(means) / math.sqrt(studies)
    assert abs(np.mean(means) - truth) <= 4 * standard_error
    assert np.mean(as_formed) < truth - 20 * standard_error
    assert np.mean(left_out) < truth - 20 * standard_error


def test_the_restricted_difference_is_unbiased_when_every_run_is_followed_to_the_horizon() -> None:
    """Exponential times of means 1 and 2: twins share their luck, and most of the slow arm never forms in time."""
    rng = np.random.default_rng(6)
    horizon = 1.5
    luck = rng.exponential(size=STUDIES * 10)
    values = restricted_steps(followed_to(horizon, spt=luck, dpt=2 * luck), horizon)
    by_arm = {arm: rows["value"].to_numpy() for arm, rows in values.groupby("arm")}
    difference = by_arm["dpt"] - by_arm["spt"]
    truth = restricted_exponential(2, horizon) - restricted_exponential(1, horizon)
    assert abs(difference.mean() - truth) <= 4 * difference.std() / math.sqrt(len(difference))
    found = stats.ttest_1samp(difference.reshape(STUDIES, 10), truth, axis=-1).pvalue
    assert (found > 0.05).mean() == pytest.approx(0.943, abs=0.01), "nominal is .95; the times are far from normal"
