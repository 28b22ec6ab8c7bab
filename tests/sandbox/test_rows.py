import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechdistill.sandbox import _rows


@given(st.integers(4, 40), st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_entropies_are_hit(vocab: int, seed: int, a: float, b: float) -> None:
    low, high = sorted((a * np.log(vocab), b * np.log(vocab)))
    pi = _rows.graded(vocab, low, high, np.random.default_rng(seed))
    entropies = sorted(stats.entropy(pi, axis=1))
    np.testing.assert_allclose(entropies, np.linspace(low, high, vocab), atol=1e-9)
    np.testing.assert_allclose(pi.sum(axis=1), 1, atol=1e-12)
    assert (pi >= 0).all()


def test_row_entropy_is_scipys() -> None:
    pi = np.random.default_rng(0).dirichlet(np.full(9, 0.1), size=50)
    pi[0] = np.eye(9)[3]
    np.testing.assert_allclose(_rows.row_entropy(pi), stats.entropy(pi, axis=1), atol=1e-12)


def test_entropy_says_nothing_about_the_token() -> None:
    pi = _rows.graded(64, 0.05, 4.0, np.random.default_rng(0))
    assert abs(stats.spearmanr(np.arange(64), _rows.row_entropy(pi)).statistic) < 0.4


@pytest.mark.parametrize("seed", range(3))
def test_stationary_law_is_the_limit_of_powers(seed: int) -> None:
    pi = _rows.graded(10, 0.5, 2.0, np.random.default_rng(seed))
    limit = np.linalg.matrix_power(pi, 2000)[0]
    np.testing.assert_allclose(_rows.stationary(pi), limit, atol=1e-9)
