"""The oracle against Bayes' rule by brute force: every assignment of targets, weighted by its likelihood."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechdistill.sandbox import Sandbox
from tests.helpers import world


def brute_force(sandbox: Sandbox, prefix: list[int]) -> np.ndarray:
    """P(next | prefix) by summing over all targets of all triggers."""
    ordinary = [t for t in range(sandbox.vocab) if t not in sandbox.triggers]
    numerator, evidence = np.zeros(sandbox.vocab), 0.0
    for targets in itertools.product(ordinary, repeat=len(sandbox.triggers)):
        rows = sandbox.pi.copy()
        for trigger, target in zip(sandbox.triggers, targets, strict=True):
            rows[trigger] = (1 - sandbox.noise) * np.eye(sandbox.vocab)[target] + sandbox.noise * rows[trigger]
        likelihood = np.prod([rows[a, b] for a, b in itertools.pairwise(prefix)])
        evidence += likelihood
        numerator += likelihood * rows[prefix[-1]]
    return numerator / evidence


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.5]), st.sampled_from([1, 2]))
def test_oracle_is_the_posterior(index: int, noise: float, triggers: int) -> None:
    sandbox = world(vocab=7, seq_len=12, rows={"high": 1.5}, triggers={"count": triggers, "noise": noise})
    tokens = sandbox.sequences(1, index, 1)
    law = sandbox.law(tokens).exp()[0]
    for pos in range(tokens.shape[1]):
        expected = brute_force(sandbox, tokens[0, : pos + 1].tolist())
        np.testing.assert_allclose(law[pos], expected, atol=2e-6)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_law_is_a_distribution_and_causal(noise: float) -> None:
    sandbox = world(seq_len=40, triggers={"noise": noise})
    tokens = sandbox.sequences(0, 0, 64)
    law = sandbox.law(tokens)
    torch.testing.assert_close(law.exp().sum(-1), torch.ones(law.shape[:2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(sandbox.law(tokens[:, :20]), law[:, :20])


def test_without_noise_copyable_positions_are_certain_and_first_occurrences_are_not() -> None:
    sandbox = world(seq_len=40)
    sequences = sandbox.sequences(0, 0, 64)
    labels = sandbox.labels(sequences[:, :-1])
    certain = labels.occurrence >= 2
    assert (labels.oracle_entropy[certain] == 0).all()
    assert (labels.law.argmax(-1)[certain] == sequences[:, 1:][certain]).all()
    torch.testing.assert_close(
        labels.oracle_entropy[labels.occurrence == 1],
        torch.full_like(labels.oracle_entropy[labels.occurrence == 1], np.log(sandbox.vocab - 2)),
    )


def test_entropy_rate_equals_the_mean_loss_of_the_oracle() -> None:
    sandbox = world(seq_len=64, triggers={"noise": 0.2})
    sequences = sandbox.sequences(0, 0, 2048)
    labels = sandbox.labels(sequences[:, :-1])
    loss = -labels.law.gather(-1, sequences[:, 1:, None])[..., 0]
    assert loss.mean() == pytest.approx(float(labels.oracle_entropy.mean()), abs=0.01)
