import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from mechdistill import teachers
from tests.helpers import world
from tests.teachers.every import Given, some_tokens


@given(st.floats(0, 1))
def test_noise_is_mixed_in_everywhere(epsilon: float) -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox)
    law = teachers.Noisy(teachers.Oracle(sandbox), epsilon).log_probs(tokens, labels)
    torch.testing.assert_close(law.exp(), (1 - epsilon) * labels.log_probs.exp() + epsilon / 12, rtol=1e-5, atol=1e-7)
    if epsilon == 0:
        assert torch.equal(law, labels.log_probs)


def test_noise_below_an_entropy_leaves_the_rest_alone() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox, 64)
    part = teachers.Bigram(sandbox)
    noisy = teachers.Noisy(part, 0.3).log_probs(tokens, labels)
    law = teachers.Noisy(part, 0.3, below=0.7).log_probs(tokens, labels)
    low = labels.oracle_entropy <= 0.7
    assert 0 < low.sum() < low.numel()
    assert torch.equal(law[low], noisy[low])
    assert torch.equal(law[~low], part.log_probs(tokens, labels)[~low])
    assert low[labels.copyable].all(), "the oracle's entropy, not the row's"
    only_certain = teachers.Noisy(teachers.Oracle(sandbox), 0.3, below=0.0).log_probs(tokens, labels)
    assert torch.equal((only_certain != labels.log_probs).any(-1), labels.copyable)


def test_permuting_keeps_softness_at_every_position_and_one_permutation_a_token() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox, 32)
    law = teachers.Permuted(teachers.Oracle(sandbox), 12, seed=3).log_probs(tokens, labels)
    assert torch.equal(law.sort(-1).values, labels.log_probs.sort(-1).values)
    distinct = Given((torch.arange(12) + 1) / 78)  # shows the permutation itself
    shown = teachers.Permuted(distinct, 12, seed=3).log_probs(tokens, labels).argsort(-1)
    for token in tokens.unique():
        rows = shown[tokens == token]
        assert (rows == rows[0]).all(), "the same wherever the token is"
    assert len({tuple(row.tolist()) for row in shown.flatten(0, 1)}) == len(tokens.unique())


def test_permuted_laws_carry_no_information_about_the_world() -> None:
    sandbox = world(triggers={"count": 0})
    tokens = torch.arange(12)[None]
    labels, seeds = sandbox.labels(tokens), 600
    laws = torch.stack(
        [teachers.Permuted(teachers.Oracle(sandbox), 12, seed).log_probs(tokens, labels)[0] for seed in range(seeds)]
    ).double()
    true = torch.tensor(sandbox.pi)
    spread = true.std(dim=1, correction=0) / math.sqrt(seeds)
    z = (laws.exp().mean(0) - 1 / 12) / spread[:, None]
    assert z.abs().max() < 5, "on average uniform"
    centred = laws - laws.mean(-1, keepdim=True)
    centred_true = true.log() - true.log().mean(1, keepdim=True)
    correlation = (centred * centred_true).sum(-1) / (centred.norm(dim=-1) * centred_true.norm(dim=-1))
    assert correlation.shape == (seeds, 12)
    # under a random permutation each has mean 0 and variance 1 / (vocab - 1)
    assert abs(float(correlation.mean())) < 4 / math.sqrt(11 * seeds * 12)
    assert float(correlation.var()) == pytest.approx(1 / 11, rel=0.1)


def test_permutations_are_uniform() -> None:
    tokens = torch.zeros(1, 1, dtype=torch.long)
    law, labels = Given([0.1, 0.2, 0.3, 0.4]), world().labels(tokens)
    orders = [
        teachers.Permuted(law, 4, seed).log_probs(tokens, labels)[0, 0].argsort().tolist() for seed in range(2400)
    ]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert chisquare(counts).pvalue > 1e-3
