import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mechdistill.sandbox._sampler import alias_table, draw


@given(arrays(np.float64, (3, 7), elements=st.floats(0, 1)))
def test_table_holds_the_law_exactly(weights: np.ndarray) -> None:
    weights = weights + 1e-12 * (weights.sum(axis=1, keepdims=True) == 0)
    probs = weights / weights.sum(axis=1, keepdims=True)
    keep, alias = alias_table(probs)
    k = probs.shape[1]
    implied = keep / k
    for i, j in np.ndindex(*keep.shape):
        implied[i, alias[i, j]] += (1 - keep[i, j]) / k
    np.testing.assert_allclose(implied, probs, atol=1e-12)


def test_impossible_tokens_are_never_drawn() -> None:
    probs = np.array([[0.0, 1 / 3, 0.0, 2 / 3, 0.0]])
    table = alias_table(probs)
    grid = np.linspace(0, 1, 100_001, endpoint=False)
    assert set(draw(table, np.zeros(len(grid), dtype=np.int64), grid)) == {1, 3}


def test_draws_follow_the_law() -> None:
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(20, 0.3))
    drawn = draw(alias_table(probs[None]), np.zeros(200_000, dtype=np.int64), rng.random(200_000))
    expected = probs * len(drawn)
    common = expected > 5
    observed = np.append(np.bincount(drawn, minlength=20)[common], np.bincount(drawn, minlength=20)[~common].sum())
    assert stats.chisquare(observed, np.append(expected[common], expected[~common].sum())).pvalue > 1e-3
