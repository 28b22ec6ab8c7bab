import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mechdistill.circuits.scores import lookup_sources
from mechdistill.config import SandboxConfig
from mechdistill.errors import MechdistillError
from mechdistill.positions import EvaluationSet
from mechdistill.sandbox import CHUNK
from mechdistill.sandbox._sampler import alias_table
from mechdistill.sandbox._ties import descending
from mechdistill.world import N_BUCKETS
from tests.helpers import only, world


def test_a_sequence_depends_on_its_index_alone() -> None:
    sandbox = world()
    reference = sandbox.sequences(3, CHUNK - 50, 100)
    for batch in (1, 7, 32):
        parts = [sandbox.sequences(3, CHUNK - 50 + i, min(batch, 100 - i)) for i in range(0, 100, batch)]
        assert torch.equal(torch.cat(parts), reference)
    assert torch.equal(world().sequences(3, CHUNK - 10, 20), reference[40:60])
    assert not torch.equal(sandbox.sequences(4, CHUNK - 50, 100), reference)
    assert not torch.equal(sandbox.sequences(3, CHUNK - 50, 100, "evaluation"), reference)


def test_another_process_draws_the_same_data() -> None:
    code = "from tests.helpers import only, world; print(world().sequences(5, 2040, 16).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(world().sequences(5, 2040, 16).tolist())


def test_transition_frequencies_pass_a_chi_squared_test() -> None:
    sandbox = world(seq_len=64)
    sequences = torch.cat([sandbox.sequences(0, i * CHUNK, CHUNK) for i in range(4)])
    source, target = sequences[:, :-1].flatten().numpy(), sequences[:, 1:].flatten().numpy()
    counts = np.zeros((sandbox.vocab, sandbox.vocab))
    np.add.at(counts, (source, target), 1)
    p_values = []
    for row in range(sandbox.vocab):
        if row in sandbox.triggers:
            continue
        expected = sandbox.pi[row] * counts[row].sum()
        common = expected > 5
        observed = np.append(counts[row][common], counts[row][~common].sum())
        expected = np.append(expected[common], expected[~common].sum())
        kept = expected > 0
        p_values.append(stats.chisquare(observed[kept], expected[kept] * observed.sum() / expected[kept].sum()).pvalue)
    assert stats.combine_pvalues(p_values).pvalue > 1e-3, p_values
    # a sampler that ignored the triggers would fail on their rows
    trigger = sandbox.triggers[0]
    assert (
        stats.chisquare(
            counts[trigger] + 1,
            (sandbox.pi[trigger] + 1e-9) * (counts[trigger] + 1).sum() / (sandbox.pi[trigger] + 1e-9).sum(),
        ).pvalue
        < 1e-6
    )


def test_targets_are_constant_uniform_and_no_triggers() -> None:
    sandbox = world(seq_len=64)
    sequences = sandbox.sequences(0, 0, CHUNK)
    for trigger in sandbox.triggers:
        targets = []
        for sequence in sequences:
            after = sequence[1:][sequence[:-1] == trigger]
            assert len(set(after.tolist())) <= 1
            targets += after[:1].tolist()
        assert not set(targets) & set(sandbox.triggers)
        ordinary = sandbox.vocab - len(sandbox.triggers)
        counts = np.bincount(targets, minlength=sandbox.vocab)
        assert stats.chisquare(np.delete(counts, sandbox.triggers)).pvalue > 1e-3
        assert (counts > 0).sum() == ordinary


def test_noise_breaks_the_rule_as_often_as_it_says() -> None:
    noise = 0.3
    sandbox = world(seq_len=64, triggers={"noise": noise})
    sequences = torch.cat([sandbox.sequences(0, i * CHUNK, CHUNK) for i in range(2)])
    trigger = sandbox.triggers[0]
    pairs = []
    for sequence in sequences:
        after = sequence[1:][sequence[:-1] == trigger][:2].tolist()
        if len(after) == 2:
            pairs.append(after[0] == after[1])
    # two occurrences agree if both follow the rule, or by chance
    pi = sandbox.pi[trigger]
    ordinary = np.setdiff1d(np.arange(sandbox.vocab), sandbox.triggers)
    chance = 2 * noise * (1 - noise) * pi[ordinary].mean() + noise**2 * (pi**2).sum()
    expected = (1 - noise) ** 2 + chance
    assert stats.binomtest(sum(pairs), len(pairs), expected).pvalue > 1e-3


def test_the_first_token_follows_the_stationary_law() -> None:
    sandbox = world()
    counts = np.bincount(sandbox.sequences(0, 0, CHUNK)[:, 0].numpy(), minlength=sandbox.vocab)
    assert stats.chisquare(counts, sandbox.stationary * counts.sum()).pvalue > 1e-3


@settings(max_examples=20)
@given(
    st.integers(0, 1000),
    st.sampled_from([{"count": 2}, {"count": 2, "noise": 0.4}, {"kind": "bernoulli", "rate": 0.5, "noise": 0.2}]),
)
def test_labels_equal_a_loop_in_plain_python(seed: int, triggers: dict) -> None:
    sandbox = world(triggers=only(triggers))
    data = sandbox.batch(seed, 0, 6)
    sequences = data.sequences
    occurrence = sandbox.occurrence(sequences, data.triggers)
    sources = lookup_sources(sequences, sandbox.occurrence(sequences, data.triggers))
    for b, sequence in enumerate(sequences.tolist()):
        own = set(data.triggers[b].nonzero().flatten().tolist())
        for q, token in enumerate(sequence):
            expected = sequence[: q + 1].count(token) if token in own else 0
            assert occurrence[b, q] == expected
            earlier = [j for j in range(q) if sequence[j] == token] if expected >= 2 else []
            assert sources[b, q].nonzero().flatten().tolist() == [j + 1 for j in earlier if j + 1 < q]


def test_where_sequences_draw_their_triggers_tokens_do_not_tell() -> None:
    sandbox = world(triggers=only({"kind": "bernoulli", "rate": 0.3}))
    data = sandbox.batch(0, 0, 4)
    labels = sandbox.labels(data.tokens)
    assert labels.log_probs.shape == (4, 16, 12)
    with pytest.raises(ValueError, match="tokens do not say"):
        _ = labels.occurrence
    assert (sandbox.labels(data.tokens, data.triggers).occurrence > 0).any()


def test_bernoulli_triggers_come_at_their_rate_with_targets_that_are_not_themselves() -> None:
    rates = [0.0, 0.0, 0.9] + [0.2] * 9
    sandbox = world(seq_len=40, triggers=only({"kind": "bernoulli", "rate": rates}))
    data = sandbox.batch(0, 0, CHUNK)
    found = data.triggers.float().mean(0).numpy()
    for token, rate in enumerate(rates):
        assert (
            stats.binomtest(int(found[token] * CHUNK + 0.5), CHUNK, rate).pvalue > 1e-4 if rate else found[token] == 0
        )
    for sequence, own in zip(data.sequences[:300].tolist(), data.triggers[:300], strict=True):
        for trigger in own.nonzero().flatten().tolist():
            after = {b for a, b in itertools.pairwise(sequence) if a == trigger}
            assert len(after) <= 1
            assert trigger not in after


def test_targets_can_follow_the_row() -> None:
    sandbox = world(seq_len=64, triggers={"count": 1, "targets": "row"})
    trigger = sandbox.triggers[0]
    targets = []
    for sequence in sandbox.sequences(0, 0, CHUNK):
        targets += sequence[1:][sequence[:-1] == trigger][:1].tolist()
    law = sandbox.pi[trigger].copy()
    law[trigger] = 0
    counts = np.bincount(targets, minlength=sandbox.vocab)
    expected = law / law.sum() * counts.sum()
    kept = expected > 1
    pooled = np.append(counts[kept], counts[~kept].sum()), np.append(expected[kept], expected[~kept].sum())
    assert stats.chisquare(pooled[0][pooled[1] > 0], pooled[1][pooled[1] > 0]).pvalue > 1e-4


def test_finite_data_repeat_in_a_new_order_every_epoch() -> None:
    sandbox = world()
    data = sandbox.training(3, 10)
    epochs = [data.batch(10 * e, 10).sequences for e in range(3)]
    stored = sorted(sandbox.sequences(3, 0, 10).tolist())
    assert all(sorted(epoch.tolist()) == stored for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])
    across = torch.cat([data.batch(i, 1).sequences for i in range(30)])
    assert torch.equal(across, torch.cat(epochs)), "another batch size keeps the order"
    assert torch.equal(sandbox.training(3, 10).batch(17, 9).sequences, across[17:26]), "as after a resume"
    endless = sandbox.training(3).batch(5, 7).sequences
    assert torch.equal(endless, sandbox.sequences(3, 5, 7))


def test_buckets_are_quartiles_of_ordinary_rows() -> None:
    sandbox = world(vocab=42, rows={"high": 3.0})
    for bucket in range(N_BUCKETS - 1):
        below, above = (sandbox.row_entropy[sandbox.bucket == b] for b in (bucket, bucket + 1))
        assert below.max() < above.min()
        assert abs(len(below) - len(above)) <= 1
    assert (sandbox.bucket[list(sandbox.triggers)] == -1).all()


def test_named_triggers_and_no_triggers() -> None:
    assert world(triggers={"tokens": [3, 7], "count": 2}).triggers == (3, 7)
    plain = world(triggers={"count": 0})
    tokens = plain.sequences(0, 0, 50)
    assert (plain.occurrence(tokens) == 0).all()
    assert torch.equal(plain.law(tokens), plain.log_pi[tokens])


def test_targets_that_follow_rows_have_a_law_or_are_refused_in_one_line() -> None:
    refused: list[str] = []
    for seed, rows in itertools.product(
        range(6),
        [
            {"kind": "two-level", "low": 1, "high": 1},
            {"kind": "two-level", "low": 2, "high": 8},
            {"low": 0.0, "high": 0.0},
        ],
    ):
        for triggers in ({"count": 4}, {"kind": "bernoulli", "rate": 0.3}):
            try:
                sandbox = world(seed=seed, rows=only(rows), triggers=only(triggers, targets="row"))
            except MechdistillError as error:
                refused.append(str(error))
                continue
            assert np.allclose(sandbox.target_prior.sum(axis=1), 1)
            data = sandbox.batch(0, 0, 8)
            law = sandbox.law(data.tokens).gather(-1, data.next_tokens[..., None])
            assert law.isfinite().all()
    assert refused
    assert all(line.startswith("sandbox.triggers") and "\n" not in line for line in refused)


def test_triggers_that_never_occur_are_refused_or_named() -> None:
    with pytest.raises(MechdistillError, match=r"no trigger .* occurs once in a million positions"):
        world(vocab=8, seed=0, rows=only(kind="dirichlet", concentration=0.01), triggers=only(tokens=[1]))
    some = world(vocab=8, seed=0, rows=only(kind="dirichlet", concentration=0.01), triggers=only(tokens=[0, 1]))
    assert some.unvisited == (1,)
    assert world().unvisited == ()


def test_rates_of_zero_are_a_world_without_triggers() -> None:
    zero, plain = (world(triggers=only(t)) for t in ({"kind": "bernoulli", "rate": [0.0] * 12}, {"count": 0}))
    assert zero.provides == plain.provides == {"oracle"}
    assert zero.config.is_plain
    assert zero.shows_triggers
    assert torch.equal(zero.evaluation(4).tokens, plain.evaluation(4).tokens)


def test_evaluation_says_that_there_is_nothing_to_copy() -> None:
    rare = world(seq_len=8, vocab=32, triggers=only(tokens=[3]))
    with pytest.warns(UserWarning, match="nothing can be copied in 2 held-out sequences"):
        EvaluationSet.held_out(rare, 2)


def test_equal_frequencies_and_entropies_are_ordered_by_token_whatever_the_roundings() -> None:
    """A doubly stochastic chain: every token is as frequent as every other, up to roundings that kernels differ in."""
    rng = np.random.default_rng(0)
    for size in (7, 32, 4096):
        law = np.full(size, 1 / size) * (1 + rng.uniform(-1, 1, size) * 1e-13)
        assert descending(law).tolist() == list(range(size))
    assert descending(np.array([0.1, 0.3, 0.3 + 1e-12, 0.2])).tolist() == [1, 2, 3, 0]
    even = world(vocab=32, rows=only(kind="two-level", low=32, high=32), triggers=only(count=3))
    assert even.triggers == (0, 1, 2)
    assert even.start_token == 3
    assert (np.diff(even.bucket[3:]) >= 0).all()


def test_a_world_whose_laws_are_too_large_is_refused_with_the_figure() -> None:
    with pytest.raises(ValueError, match="seq_len=8192: must be at most 2048 with vocab=4096"):
        SandboxConfig(vocab=4096, seq_len=8192)


@given(st.integers(0, 1000), st.integers(1, 5), st.integers(2, 9))
def test_alias_tables_give_every_token_its_probability(seed: int, rows: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(k, 0.3), size=rows) * (rng.random((rows, k)) < 0.7) + 1e-9 * np.eye(k)[0]
    table = alias_table(probs)
    given_by = table.keep / k
    for i in range(rows):
        np.add.at(given_by[i], table.alias[i], (1 - table.keep[i]) / k)
    np.testing.assert_allclose(given_by, probs / probs.sum(axis=1, keepdims=True), atol=1e-12)
    assert (given_by[probs == 0] == 0).all()


def test_a_world_is_made_and_asked_whatever_numpy_has_been_told_to_raise() -> None:
    changes: dict[str, Any] = {"triggers": {"count": 2, "noise": 0.2, "targets": "row"}}
    with np.errstate(all="raise"):
        one = world(**changes)
        found = [one.stationary, one.best_bigram, one.no_matching_hits(one.evaluation(8)).numpy()]
    other = world(**changes)
    expected = [other.stationary, other.best_bigram, other.no_matching_hits(other.evaluation(8)).numpy()]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
