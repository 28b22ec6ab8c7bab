"""The arithmetic of pass@k against exact fractions, scipy, brute force and the conditions of an optimum."""

import itertools
from fractions import Fraction
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechdistill.errors import MechdistillError
from mechdistill.evals import estimated_pass_at_k
from mechdistill.evals._estimate import best_law, best_pass_at_k, exact_pass_at_k, majority_vote
from tests.helpers import world


def fraction(n: int, c: int, k: int) -> Fraction:
    """1 - C(n-c, k) / C(n, k), with no rounding at all."""
    missed = Fraction(1)
    few, many = sorted((c, k))
    for i in range(few):
        missed *= Fraction(max(n - many - i, 0), n - i)
    return 1 - missed


@pytest.mark.parametrize("n", [1, 2, 16, 256, 10_007, 1_000_000])
def test_the_estimate_equals_exact_fractions_and_the_hypergeometric_law(n: int) -> None:
    cases = [(c, k) for c in {0, 1, 2, 7, n // 3, n - 1, n} for k in {1, 2, 16, 255, n // 2, n}]
    cases = [(c, k) for c, k in cases if 0 <= c <= n and 1 <= k <= n and min(c, k) <= 300]
    assert cases
    for c, k in cases:
        exact, found = fraction(n, c, k), float(estimated_pass_at_k(n, c, k))
        assert n > 300 or exact == 1 - Fraction(comb(n - c, k), comb(n, k))
        assert found == pytest.approx(float(exact), rel=1e-12, abs=0), (n, c, k)
        # scipy itself goes by gammaln: 1e-7 is what it has left at a million
        assert found == pytest.approx(1 - stats.hypergeom.pmf(0, n, c, k), rel=1e-7, abs=1e-9), (n, c, k)


def test_half_a_million_right_of_a_million() -> None:
    assert estimated_pass_at_k(1_000_000, 500_000, 400_000) == 1
    assert estimated_pass_at_k(1_000_000, 1, 500_000) == 0.5


@given(st.lists(st.tuples(st.integers(1, 60), st.floats(0, 1)), min_size=1, max_size=8), st.data())
def test_arrays_are_taken_one_by_one(pairs: list[tuple[int, float]], data: st.DataObject) -> None:
    n = np.array([n for n, _ in pairs])
    c = np.array([round(n * share) for n, share in pairs])
    k = data.draw(st.integers(1, int(n.min())))
    found = estimated_pass_at_k(n.reshape(-1, 1), c.reshape(-1, 1), k)
    assert found.shape == (len(n), 1)
    assert found.ravel().tolist() == [float(estimated_pass_at_k(int(a), int(b), k)) for a, b in zip(n, c, strict=True)]


@pytest.mark.parametrize(
    ("n", "c", "k", "said"),
    [
        (4, 0, 5, "k=5 must be at most n"),  # the popular code says 1.0 here
        (4, 4, 5, "k=5 must be at most n"),
        (4, 5, 1, "c must be at most n"),
        (0, 0, 1, "n must be at least 1"),
        (4, -1, 1, "c must be at least 0"),
        (-4, 0, 1, "n must be at least 1"),
        (4, 1, 0, "k=0"),
        (4, 1, -1, "k=-1"),
        (4.0, 1, 1, "n=4.0"),
        (4, 1.5, 1, "c=1.5"),
        (4, 1, 1.0, "k=1.0"),
        (True, 1, 1, "n=True"),
        ([4, 8], [1, 9], 2, "n=8, c=9"),
    ],
)
def test_what_is_no_count_is_refused(n, c, k, said: str) -> None:
    with pytest.raises(MechdistillError, match=said):
        estimated_pass_at_k(n, c, k)


def test_the_estimate_is_unbiased_where_the_plug_in_is_not() -> None:
    n, k, p = 16, 16, 0.05
    c = np.arange(n + 1)
    law = stats.binom.pmf(c, n, p)
    assert law @ estimated_pass_at_k(n, c, k) == pytest.approx(1 - (1 - p) ** k)
    assert law @ (1 - (1 - c / n) ** k) < 0.45 < 1 - (1 - p) ** k


def test_small_chances_lose_nothing() -> None:
    p = torch.tensor([0.0, 1e-300, 1e-18, 1e-9, 0.5, 1.0], dtype=torch.float64)
    exact = [float(1 - (1 - Fraction(x)) ** 16) for x in p.tolist()]
    assert exact_pass_at_k(p, 16).tolist() == pytest.approx(exact, rel=1e-14, abs=0)
    assert torch.equal(exact_pass_at_k(p, 1), p)


def rows() -> torch.Tensor:
    """Laws of many shapes: flat, peaked, with zeros, of a world's rows."""
    of_a_world = torch.tensor(world(rows={"high": 2.4, "low": 0.1}, triggers={"count": 0}).pi[:4])
    peaked = torch.tensor([[0.9, 0.05, 0.03, *[0.02 / 9] * 9], [0.5, 0.5, *[0.0] * 10], [1.0, *[0.0] * 11]])
    return torch.cat([torch.full((1, 12), 1 / 12, dtype=torch.float64), peaked.double(), of_a_world])


@pytest.mark.parametrize("k", [1, 2, 3, 16, 256])
def test_no_law_of_samples_beats_the_optimum(k: int) -> None:
    pi = rows()
    best = best_law(pi, k)
    torch.testing.assert_close(best.sum(dim=1), torch.ones(len(pi), dtype=torch.float64))
    assert (best >= 0).all()
    assert (best[pi == 0] == 0).all()
    at_best = best_pass_at_k(pi, k)
    rng = np.random.default_rng(0)
    for i, row in enumerate(pi):
        # spread over all of the simplex, on its sides, and close to the optimum and to the row itself
        laws = np.concatenate(
            [rng.dirichlet(np.full(12, a), size=2000) for a in (0.05, 0.3, 1.0, 5.0)]
            + [rng.dirichlet(500 * centre.numpy() + 1e-3, size=1000) for centre in (best[i], row)]
        )
        laws = torch.from_numpy(np.concatenate([laws, row[None].numpy(), np.full((1, 12), 1 / 12)]))
        assert len(laws) > 10_000
        reached = (row * exact_pass_at_k(laws.clamp(max=1), k)).sum(dim=1)
        assert reached.max() <= at_best[i] + 1e-12
        # Karush-Kuhn-Tucker: one slope on the support, none larger off it
        slope = k * row * (1 - best[i]) ** (k - 1)
        on = best[i] > 0
        if k > 1 and int(on.sum()) > 1:
            assert slope[on].max() - slope[on].min() < 1e-12
        assert k == 1 or slope[~on].max() <= slope[on].min() + 1e-12 if (~on).any() else True
    assert at_best[0] == pytest.approx(1 - (11 / 12) ** k), "nothing is better than flat where all are alike"


def test_at_one_sample_the_likeliest_is_best_and_at_many_spread_beats_the_rows_own_law() -> None:
    pi = rows()
    assert best_pass_at_k(pi, 1).tolist() == pytest.approx(pi.max(dim=1).values.tolist())
    sandbox = world(vocab=64, rows={"high": 3.5}, triggers={"count": 0})
    row = torch.tensor(sandbox.pi[sandbox.row_entropy.argmax()])
    uniform = torch.full((64,), 1 / 64, dtype=torch.float64)
    laws = (row, uniform, best_law(row[None], 256)[0])
    own, flat, best = (float((row * exact_pass_at_k(q, 256)).sum()) for q in laws)
    assert own < flat < best < 1


@pytest.mark.parametrize("n", [1, 2, 5, 6])
def test_the_majority_vote_equals_all_possible_votes(n: int) -> None:
    law = torch.tensor([[0.5, 0.3, 0.15, 0.05], [1.0, 0.0, 0.0, 0.0], [0.25] * 4], dtype=torch.float64)
    weight = torch.tensor([[0.1, 0.6, 0.2, 0.1], [0.7, 0.3, 0.0, 0.0], [0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    found = majority_vote(weight, law, n)
    for q, w, value in zip(law.tolist(), weight.tolist(), found.tolist(), strict=True):
        total = 0.0
        for votes in itertools.product(range(4), repeat=n):
            count = np.bincount(votes, minlength=4)
            tied = np.flatnonzero(count == count.max())
            total += float(np.prod([q[v] for v in votes])) * float(np.mean([w[t] for t in tied]))
        assert value == pytest.approx(total, abs=1e-14)


def test_a_vote_of_16_equals_its_simulation_and_grows_into_the_likeliest() -> None:
    law = torch.tensor(world(vocab=30, rows={"high": 2.9}, triggers={"count": 0}).pi[:5])
    weight = law.flip(1)
    rng = np.random.default_rng(0)
    trials = 20_000
    for q, w, value in zip(law.numpy(), weight.numpy(), majority_vote(weight, law, 16).tolist(), strict=True):
        count = rng.multinomial(16, q / q.sum(), size=trials)
        tied = count == count.max(axis=1, keepdims=True)
        right = (tied * w).sum(axis=1) / tied.sum(axis=1)
        assert abs(right.mean() - value) < 4 * right.std() / trials**0.5 + 1e-12
    sharp = torch.tensor([[0.6, 0.4]], dtype=torch.float64)
    votes = [float(majority_vote(sharp, sharp, n)) for n in (1, 4, 16, 64)]
    assert votes == sorted(votes)
    assert votes[0] == pytest.approx(0.6 * 0.6 + 0.4 * 0.4)
    assert 0.58 < votes[-1] < 0.6
