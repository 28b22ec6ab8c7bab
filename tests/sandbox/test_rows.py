from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mechdistill.config import SandboxConfig
from mechdistill.errors import MechdistillError
from mechdistill.sandbox import Sandbox, _rows


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


@given(st.integers(0, 1000), st.floats(0, 1), st.integers(1, 12), st.integers(1, 12))
def test_two_level_rows_have_their_supports_and_trap_nothing(seed: int, share: float, a: int, b: int) -> None:
    low, high = sorted((a, b))
    pi = _rows.two_level(12, share, low, high, np.random.default_rng(seed))
    sizes = sorted((pi > 0).sum(axis=1))
    n_low = round(share * 12)
    assert sizes == sorted([low] * n_low + [high] * (12 - n_low))
    np.testing.assert_allclose(_rows.row_entropy(pi), np.log((pi > 0).sum(axis=1)), atol=1e-12)
    reach = np.linalg.matrix_power(np.eye(12) + (pi > 0), 12)
    assert (reach > 0).all(), "some token cannot be reached from some other"


def test_dirichlet_rows_have_the_expected_entropy() -> None:
    from scipy.special import digamma

    for a in (0.1, 1.0, 10.0):
        pi = _rows.dirichlet(50, a, np.random.default_rng(0))
        expected = digamma(50 * a + 1) - digamma(a + 1)
        assert _rows.row_entropy(pi).mean() == pytest.approx(expected, abs=0.15)


def test_corpus_rows_are_the_texts_bigram_counts(tmp_path) -> None:
    text = "how much wood would a woodchuck chuck if a woodchuck could chuck wood?\n" * 3
    (tmp_path / "text.txt").write_text(text)
    config = {"vocab": 8, "seq_len": 16, "rows": {"kind": "corpus", "path": str(tmp_path / "text.txt")}}
    sandbox = Sandbox(SandboxConfig.model_validate({**config, "triggers": {"count": 2}}))
    kept = [symbol for symbol, _ in Counter(text).most_common(8)]
    assert list(sandbox.symbols) == kept
    left = [c for c in text if c in kept]
    pairs = Counter(zip(left, left[1:] + left[:1], strict=True))
    for i, a in enumerate(kept):
        total = sum(n for (first, _), n in pairs.items() if first == a)
        for j, b in enumerate(kept):
            assert sandbox.pi[i, j] == pytest.approx(pairs[a, b] / total)
    assert sandbox.triggers == tuple(np.argsort(-_rows.stationary(sandbox.pi), kind="stable")[:2]) == (0, 1)
    stored = sandbox.config
    assert SandboxConfig.model_validate(stored.model_dump()) == stored
    (tmp_path / "text.txt").write_text(text + "x")
    with pytest.raises(MechdistillError, match="has changed since"):
        Sandbox(stored)
    with pytest.raises(MechdistillError, match=r"vocab=40: must be at most \d+, the distinct characters"):
        Sandbox(SandboxConfig.model_validate({**config, "vocab": 40}))


def test_line_ends_count_once_whatever_they_are(tmp_path) -> None:
    """The text is read the same way for counting its characters and for building its rows."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"abcab\r\nbca\rcab\n" * 3)
    four = SandboxConfig.model_validate(
        {"vocab": 4, "seq_len": 8, "rows": {"kind": "corpus", "path": str(path)}, "triggers": {"count": 0}}
    )
    assert set(Sandbox(four).symbols) == {"a", "b", "c", "\n"}
    with pytest.raises(MechdistillError, match="vocab=5: must be at most 4, the distinct characters"):
        Sandbox(four.model_copy(update={"vocab": 5}))


def test_worlds_of_two_texts_are_two_worlds_though_nobody_wrote_down_a_hash(tmp_path) -> None:
    path = tmp_path / "text.txt"
    rows = {"kind": "corpus", "path": str(path)}
    config = SandboxConfig.model_validate({"vocab": 4, "seq_len": 8, "rows": rows, "triggers": {"count": 0}})
    identities = []
    for text in ("abcd" * 9, "abdc" * 9, "abcd" * 9):
        path.write_text(text)
        identities.append(Sandbox(config).identity())
    assert identities[0] == identities[2] != identities[1]


def test_rows_of_several_supports_come_equally_often_and_trap_nobody() -> None:
    pi = _rows.supports(20, (1, 4, 9, 16), np.random.default_rng(3))
    sizes = (pi > 0).sum(axis=1)
    assert np.unique(sizes, return_counts=True)[1].tolist() == [5, 5, 5, 5]
    np.testing.assert_allclose(pi.max(axis=1), 1 / sizes)
    assert not (np.diff(sizes.reshape(-1, 4), axis=0) == 0).all(), "which row has which is random"
    assert (np.linalg.matrix_power((pi > 0) + np.eye(20), 20) > 0).all()
