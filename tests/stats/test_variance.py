"""Components of variance of crossed seeds: by hand, and against simulated ones that are known."""

import numpy as np
import pytest

from mechdistill.errors import MechdistillError
from mechdistill.stats import variance_shares
from mechdistill.stats._variance import components


def test_a_small_crossing_by_hand() -> None:
    """3 x 3. Row means 1, 4, 7 about 4: MS 3·18/2 = 27; column means 3, 4, 5: MS 3·2/2 = 3; what is left of the cells,
    four of them 1 off and one 0... each deviates by e = ±1 in a pattern whose rows and columns sum to 0: MS 4/4 = 1."""
    left = np.array([[1, -1, 0], [-1, 1, 0], [0, 0, 0]])
    values = np.array([[1.0], [4.0], [7.0]]) + np.array([[-1.0, 0.0, 1.0]]) + left
    assert components(values) == pytest.approx([(27 - 1) / 3, (3 - 1) / 3, 1])
    init, data, rest = variance_shares(values)
    total = 26 / 3 + 2 / 3 + 1
    assert [part.share for part in (init, data, rest)] == pytest.approx([26 / 3 / total, 2 / 3 / total, 1 / total])
    assert (init.axis, data.axis, rest.axis) == (0, 1, None)
    assert np.isnan([init.low, init.high, rest.low]).all(), "levels drawn of three repeat: no interval"
    assert not init.clamped


def test_five_levels_have_an_interval_around_the_share() -> None:
    rng = np.random.default_rng(3)
    values = 3 * rng.normal(size=(6, 1)) + rng.normal(size=(1, 5)) + rng.normal(size=(6, 5))
    for part in variance_shares(values):
        assert 0 <= part.low <= part.share <= part.high <= 1
        assert part.low < part.high


def test_estimates_are_unbiased_also_with_interactions_of_three_factors() -> None:
    rng, draws = np.random.default_rng(0), 3000
    found = np.zeros(4)
    for _ in range(draws):
        a, b, c = (rng.normal(size=shape) for shape in ((4, 1, 1), (1, 5, 1), (1, 1, 3)))
        ab, noise = rng.normal(size=(4, 5, 1)), rng.normal(size=(4, 5, 3))
        found += components(2 * a + b + 0.5 * c + ab + noise) / draws
    assert found == pytest.approx([4, 1, 0.25, 2], abs=0.15)


def test_a_negative_component_counts_as_zero_and_says_so() -> None:
    values = np.array([[1.0, -1.0, 0.0], [-1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])  # all means are 0
    init, data, rest = variance_shares(values)
    assert (init.variance, init.clamped, data.clamped, rest.share) == (0, True, True, 1)


def test_of_equal_runs_there_is_no_share() -> None:
    assert all(np.isnan(part.share) for part in variance_shares(np.ones((3, 3))))


@pytest.mark.parametrize("shape", [(9,), (2, 3), (3, 1)])
def test_what_is_no_crossing_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(MechdistillError, match="at least 3 levels each"):
        variance_shares(np.zeros(shape))
