"""Diversity: counts by hand, closed forms, and what noise does."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import mechdistill as md
from mechdistill.evals import distinct_n, diversity, ngram_kernel, on_support, unique_correct, vendi_score
from mechdistill.model import Bigram
from mechdistill.sandbox import Sandbox
from tests.helpers import only, world


def table_model(sandbox: Sandbox, noise: float = 0.0) -> Bigram:
    """The true rows, with a share of uniform tokens."""
    model = Bigram(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len)
    model.table.data = torch.tensor((1 - noise) * sandbox.pi + noise / sandbox.vocab).log().float()
    return model


def picked(table: pd.DataFrame, metric: str, temperature: float = 1.0, **where: int) -> pd.Series:
    rows = table[(table["metric"] == metric) & (table["temperature"] == temperature)]
    for column, value in where.items():
        rows = rows[rows[column] == value]
    assert len(rows) == 1, rows
    return rows.iloc[0]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_distinct_n_counts_as_a_set_does(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(4096, (7, 9), generator=generator) % 5 * 1023
    valid = torch.rand(7, 8, generator=generator) < 0.7
    grams = [
        (tuple(row[i : i + n]), all(ok[i : i + n - 1]))
        for row, ok in zip(tokens.tolist(), valid.tolist(), strict=True)
        for i in range(10 - n)
    ]
    assert distinct_n(tokens, n) == len({gram for gram, _ in grams}) / len(grams)
    assert distinct_n(tokens, n, valid) == len({gram for gram, ok in grams if ok}) / len(grams)
    with pytest.raises(md.MechdistillError, match="n=10: must be between 1 and the 9 tokens"):
        distinct_n(tokens, 10)


def test_distinct_n_falls_with_the_number_of_sequences_and_is_alike_at_one_number() -> None:
    tokens = world(vocab=32, seq_len=64, rows={"high": 3.0}).evaluation(2048).tokens
    by_number = [distinct_n(tokens[:number], 4) for number in (4, 32, 256, 1024)]
    assert by_number == sorted(by_number, reverse=True)
    assert by_number[0] > 3 * by_number[-1]
    one, other = distinct_n(tokens[:1024], 4), distinct_n(tokens[1024:], 4)
    assert one == pytest.approx(other, rel=0.02)


def test_the_vendi_score_is_one_of_copies_n_of_strangers_and_the_spectrums_between() -> None:
    assert vendi_score(torch.ones(40, 40)) == pytest.approx(1)
    assert vendi_score(torch.eye(40)) == pytest.approx(40)
    assert vendi_score(torch.block_diag(torch.ones(30, 30), torch.ones(10, 10))) == pytest.approx(
        math.exp(stats.entropy([0.75, 0.25]))
    )
    n, c = 12, 0.4  # all pairs alike to c: one eigenvalue (1 + (n - 1) c) / n, n - 1 of (1 - c) / n
    large, small = (1 + (n - 1) * c) / n, (1 - c) / n
    expected = math.exp(-large * math.log(large) - (n - 1) * small * math.log(small))
    assert vendi_score(torch.full((n, n), c) + (1 - c) * torch.eye(n)) == pytest.approx(expected)
    tokens = torch.tensor([[0, 1, 0, 1], [1, 0, 1, 0], [2, 2, 2, 2]])  # bigrams: 2 x 01, 10; 01, 2 x 10; 3 x 22
    expected = [[1, 4 / 5, 0], [4 / 5, 1, 0], [0, 0, 1]]
    assert ngram_kernel(tokens).tolist() == pytest.approx(np.array(expected))


def test_unique_correct_is_the_mean_over_all_choices_of_samples() -> None:
    generator = torch.Generator().manual_seed(1)
    continuations = torch.randint(3, (4, 6, 2), generator=generator)
    valid = (continuations != 2).all(dim=-1)
    for k in (1, 2, 4, 6):
        expected = np.mean(
            [
                len({tuple(c[i].tolist()) for i in chosen if ok[i]})
                for c, ok in zip(continuations, valid, strict=True)
                for chosen in combinations(range(6), k)
            ]
        )
        assert unique_correct(continuations, valid, k) == pytest.approx(expected)
    assert unique_correct(continuations, valid, 1) == pytest.approx(float(valid.float().mean()))
    for k in (0, 7):
        with pytest.raises(md.MechdistillError, match=f"k={k}: must be between 1 and the 6 samples"):
            unique_correct(continuations, valid, k)


def test_the_support_carries_99_per_cent_and_all_of_a_uniform_row() -> None:
    laws = torch.tensor(
        [[0.6, 0.3, 0.095, 0.004, 0.001, 0.0], [1 / 3, 1 / 3, 1 / 3, 0, 0, 0], [0.995, 0.005, 0, 0, 0, 0]]
    )
    everything = laws.log()[:, None].expand(3, 6, 6)
    found = on_support(everything, torch.arange(6).expand(3, 6))
    assert found.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("rows", [{"kind": "two-level", "low": 2, "high": 6}, {"high": 2.5}])
def test_noise_raises_diversity_and_lowers_validity_as_the_closed_form_says(rows: dict) -> None:
    sandbox = world(vocab=64, seq_len=64, rows=only({"kind": "graded"} | {**rows}), triggers=only({"count": 0}))
    pi, noise = sandbox.pi, 0.05
    clean, noisy = (diversity(table_model(sandbox, of), sandbox) for of in (0.0, noise))
    raised = picked(noisy, "distinct-n", n=2)["value"] / picked(clean, "distinct-n", n=2)["value"]
    assert raised > (2 if rows.get("kind") else 1.2)
    # support by sorting; how often each row is visited, by the chain's own start and 63 steps of it
    order = np.argsort(-pi, axis=1, kind="stable")
    upto = np.cumsum(np.take_along_axis(pi, order, 1), axis=1) - np.take_along_axis(pi, order, 1)
    support = np.zeros_like(pi, dtype=bool)
    np.put_along_axis(support, order, (upto < 0.99) & (np.take_along_axis(pi, order, 1) > 0), axis=1)
    for table, share in ((clean, 0.0), (noisy, noise)):
        law = (1 - share) * pi + share / 64
        at, expected, rate = sandbox.start_law, 0.0, 0.0
        entropy = stats.entropy(law, axis=1)
        for _ in range(63):
            expected += float(at @ (law * support).sum(1)) / 63
            rate += float(at @ entropy) / 63
            at = at @ law
        assert picked(table, "validity")["value"] == pytest.approx(expected, abs=0.006)
        assert picked(table, "entropy-rate")["value"] == pytest.approx(rate, abs=0.05)
    assert picked(noisy, "valid-distinct-n", n=2)["value"] < picked(noisy, "distinct-n", n=2)["value"] * 0.9
    assert picked(noisy, "unique-correct", k=1)["value"] < picked(clean, "unique-correct", k=1)["value"] - 0.05
    assert picked(noisy, "vendi-score")["value"] > picked(clean, "vendi-score")["value"]
    # the true rows are the world, so that they stand where its own sequences do
    for metric, where in (
        ("distinct-n", {"n": 2}),
        ("valid-distinct-n", {"n": 3}),
        ("entropy-rate", {}),
        ("vendi-score", {}),
    ):
        row = picked(clean, metric, **where)
        assert row["value"] == pytest.approx(row["reference"], rel=0.1)
    oracle = picked(clean, "oracle-entropy-rate")["value"]
    assert picked(clean, "entropy-rate")["reference"] == oracle
    cold, hot = (picked(clean, "entropy-rate", t)["value"] for t in (0.7, 1.3))
    assert cold <= picked(clean, "entropy-rate")["value"] <= hot


def test_a_wrong_copy_is_invalid_and_the_table_is_the_same_each_time() -> None:
    sandbox = world(vocab=20, seq_len=40, rows={"high": 2.5}, triggers=only({"count": 3}))
    model = table_model(sandbox)
    model.table.data = torch.tensor(sandbox.best_bigram).log().float()
    tables = [diversity(model, sandbox) for _ in range(2)]
    pd.testing.assert_frame_equal(*tables)
    row = picked(tables[0], "validity")
    assert row["reference"] > 0.99
    share = float(sandbox.copyable_share().value.mean())
    assert row["value"] == pytest.approx(row["reference"] - share * (1 - 1 / 17), abs=0.04), "it guesses among 17"
    assert set(tables[0]["sequences"]) == {256, 512}
    assert set(tables[0]["temperature"]) == {0.7, 1.0, 1.3}
