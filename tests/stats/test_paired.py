import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechdistill.errors import MechdistillError
from mechdistill.stats import bca, paired

# whole numbers over a power of two: their sums are exact, so ties between sign flips are too
numbers = st.integers(-1000, 1000).map(lambda i: i / 16)
differences = st.lists(numbers, min_size=3, max_size=9).filter(lambda d: len(set(d)) > 1)


def nothing_but(result: tuple, **known: float) -> bool:
    return all(value == known[name] if name in known else math.isnan(value) for name, value in result._asdict().items())


def enumerated_sign_flip(d: list[float]) -> float:
    sums = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in itertools.product([1, -1], repeat=len(d))]
    upper = sum(s >= sum(d) for s in sums) / len(sums)
    lower = sum(s <= sum(d) for s in sums) / len(sums)
    return min(1.0, 2 * min(upper, lower))


@given(differences)
def test_the_sign_flip_equals_enumeration(d: list[float]) -> None:
    assert paired(d).p_sign_flip == pytest.approx(enumerated_sign_flip(d))


def test_sign_flips_of_many_pairs_are_sampled_and_repeatable() -> None:
    d = np.random.default_rng(0).normal(0.4, 1, 40)
    assert paired(d).p_sign_flip == paired(d).p_sign_flip
    assert paired(d).p_sign_flip == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.01)


@given(differences)
def test_interval_and_p_equal_a_two_sample_paired_t_test(d: list[float]) -> None:
    twin = np.linspace(0, 1, len(d))
    found, expected = paired(d), stats.ttest_rel(twin + d, twin)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6, abs=1e-9)
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05) or found.p == pytest.approx(0.05)


def test_known_values() -> None:
    """Student's own sleep data (R: t.test(extra ~ group, paired = TRUE))."""
    found = paired([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    assert found.n == 10
    assert found.difference == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.7001142, 2.4598858))
    assert found.p == pytest.approx(0.002832890)
    # the one zero can have either sign: 4 of 1024 flips are as far out
    assert found.p_sign_flip == 4 / 1024


@pytest.mark.parametrize("n", [3, 4, 5, 10, 30])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_minimum_detectable_effect_has_power_80_by_the_noncentral_t(n: int, level: float) -> None:
    d = np.random.default_rng(n).normal(size=n)
    shift = paired(d, level).minimum_detectable / d.std(ddof=1) * math.sqrt(n)
    critical = stats.t.ppf((1 + level) / 2, n - 1)
    assert stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift) == pytest.approx(0.8)


def test_hedges_factor_is_near_its_usual_approximation() -> None:
    d = np.random.default_rng(1).normal(1, 1, 10)
    assert paired(d).effect_size == pytest.approx(d.mean() / d.std(ddof=1) * (1 - 3 / (4 * 9 - 1)), rel=2e-3)


@pytest.mark.parametrize("d", [[], [0.5], [0.5, 0.7]])
def test_fewer_than_three_pairs_get_no_interval(d: list[float]) -> None:
    known = {"difference": sum(d) / len(d)} if d else {}
    assert nothing_but(paired(d), n=len(d), **known)
    assert nothing_but(bca(d))


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (0.1, 2 / 2**6), (-7e3, 2 / 2**6), (1e-300, 2 / 2**6)])
def test_identical_differences_get_no_interval_but_a_sign_flip(value: float, p: float) -> None:
    assert nothing_but(paired([value] * 6), n=6, difference=pytest.approx(value), p_sign_flip=p)
    assert nothing_but(bca([value] * 6))


def test_differences_identical_up_to_rounding_are_identical() -> None:
    d = np.array([0.3, 0.4, 0.9]) - np.array([0.2, 0.3, 0.8])
    assert len(set(d)) > 1
    assert math.isnan(paired(d).p)
    assert math.isnan(bca(d).low)


@pytest.mark.parametrize("function", [paired, bca])
def test_differences_that_are_not_finite_are_named(function) -> None:
    with pytest.raises(MechdistillError, match=r"differences\[1\]=nan, differences\[3\]=-inf: must be finite"):
        function([0.0, math.nan, 1.0, -math.inf])


@given(differences, st.sampled_from([0.25, 2.0, 1024.0]))
def test_scaling_scales_and_leaves_the_tests_alone(d: list[float], factor: float) -> None:
    one, scaled = paired(d), paired(np.array(d) * factor)
    assert (scaled.n, scaled.p_sign_flip) == (one.n, one.p_sign_flip)
    assert (scaled.p, scaled.effect_size) == pytest.approx((one.p, one.effect_size))
    for name in ("difference", "low", "high", "minimum_detectable"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(one, name))
    assert bca(np.array(d) * factor) == pytest.approx(tuple(factor * x for x in bca(d)))


@given(differences, numbers)
def test_shifting_shifts_the_interval(d: list[float], shift: float) -> None:
    one, shifted = paired(d), paired(np.array(d) + shift)
    for name in ("difference", "low", "high"):
        assert getattr(shifted, name) == pytest.approx(getattr(one, name) + shift, abs=1e-9)
    assert shifted.minimum_detectable == pytest.approx(one.minimum_detectable)


@given(differences)
def test_swapping_arms_flips_signs(d: list[float]) -> None:
    one, swapped = paired(d), paired(-np.array(d))
    assert swapped.p_sign_flip == one.p_sign_flip
    assert swapped.p == pytest.approx(one.p)
    assert (swapped.difference, swapped.effect_size) == pytest.approx((-one.difference, -one.effect_size))
    assert (swapped.low, swapped.high) == pytest.approx((-one.high, -one.low))
    assert bca(-np.array(d)) == pytest.approx(tuple(-x for x in reversed(bca(d))))


@given(differences, st.randoms())
def test_the_order_of_pairs_does_not_matter(d: list[float], random) -> None:
    shuffled = random.sample(d, len(d))
    assert paired(shuffled) == pytest.approx(paired(d))


def test_bca_equals_scipy_and_depends_on_its_seed_only() -> None:
    d = np.random.default_rng(2).exponential(size=10)
    expected = stats.bootstrap((d,), np.mean, method="BCa", confidence_level=0.9, rng=np.random.default_rng(7))
    assert bca(d, 0.9, seed=7) == pytest.approx(tuple(expected.confidence_interval))
    assert bca(d, 0.9, seed=7) == bca(d, 0.9, seed=7) != bca(d, 0.9, seed=8)
