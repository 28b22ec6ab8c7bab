"""Differences of differences, held against scipy on four columns of numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from mechdistill.errors import MechdistillError
from mechdistill.stats import Contrast, difference_in_differences

ARMS = ("a", "b", "c", "d")
FIRST, SECOND = Contrast("a", "b"), Contrast("c", "d")


def laid_out(wide: np.ndarray) -> pd.DataFrame:
    rows = [(arm, seed, "m", wide[seed, i]) for seed in range(len(wide)) for i, arm in enumerate(ARMS)]
    return pd.DataFrame(rows, columns=["arm", "seed", "metric", "value"]).astype({"arm": "string"})


def test_it_is_the_paired_t_of_four_columns() -> None:
    wide = np.random.default_rng(0).normal(size=(8, 4))
    row = difference_in_differences(laid_out(wide), FIRST, SECOND).iloc[0]
    mine = wide @ [1, -1, -1, 1]
    test = scipy_stats.ttest_rel(wide[:, 0] - wide[:, 1], wide[:, 2] - wide[:, 3])
    interval = test.confidence_interval(0.95)
    assert (row["arm"], row["baseline"], row["n"]) == ("a - b", "c - d", 8)
    np.testing.assert_allclose([row["difference"], row["p"]], [mine.mean(), test.pvalue])
    np.testing.assert_allclose([row["low"], row["high"]], [interval.low, interval.high])


def test_a_seed_without_all_four_is_left_out_and_what_all_share_cancels() -> None:
    wide = np.random.default_rng(1).normal(size=(6, 4))
    values = laid_out(wide)
    values = values[~((values["arm"] == "d") & (values["seed"] == 5))]
    row = difference_in_differences(values, FIRST, SECOND).iloc[0]
    assert row["n"] == 5
    shifted = values.assign(value=values["value"] + 10.0 * values["seed"])  # a seed's own level
    assert difference_in_differences(shifted, FIRST, SECOND).iloc[0]["difference"] == pytest.approx(row["difference"])


def test_what_is_no_question_is_refused() -> None:
    values = laid_out(np.zeros((3, 4)))
    with pytest.raises(MechdistillError, match="second=a - b: equals first"):
        difference_in_differences(values, FIRST, FIRST)
    with pytest.raises(MechdistillError, match="arm 'e'"):
        difference_in_differences(values, FIRST, Contrast("e", "d"))
