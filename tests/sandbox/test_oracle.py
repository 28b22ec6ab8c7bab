"""The oracle against Bayes' rule by brute force: every assignment of targets, weighted by its likelihood."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mechdistill.sandbox import Sandbox
from tests.helpers import only, world


def brute_force(sandbox: Sandbox, prefix: list[int]) -> np.ndarray:
    """P(next | prefix) by summing over what every token of the prefix can be: no trigger, or one with a target."""
    allowed = [t for t in range(sandbox.vocab) if t not in sandbox.triggers]

    def choices(token: int) -> list[tuple[float, int | None]]:
        targets = [t for t in allowed if t != token]
        weights = sandbox.pi[token][targets] if sandbox.config.triggers.targets == "row" else np.ones(len(targets))
        rate = sandbox.rate[token]
        as_trigger = [(rate * w / weights.sum(), t) for w, t in zip(weights, targets, strict=True)] if rate else []
        return [*as_trigger, (1 - rate, None)]

    tokens = sorted(set(prefix))
    numerator, evidence = np.zeros(sandbox.vocab), 0.0
    for assignment in itertools.product(*(choices(token) for token in tokens)):
        rows = sandbox.pi.copy()
        likelihood = 1.0
        for token, (weight, target) in zip(tokens, assignment, strict=True):
            likelihood *= weight
            if target is not None:
                rows[token] = (1 - sandbox.noise) * np.eye(sandbox.vocab)[target] + sandbox.noise * rows[token]
        likelihood *= np.prod([rows[a, b] for a, b in itertools.pairwise(prefix)])
        evidence += likelihood
        numerator += likelihood * rows[prefix[-1]]
    return numerator / evidence


WORLDS = [
    {"count": 1},
    {"count": 2, "noise": 0.05},
    {"count": 2, "noise": 0.5, "targets": "row"},
    {"kind": "bernoulli", "rate": 0.3},
    {"kind": "bernoulli", "rate": 0.3, "noise": 0.2},
    {"kind": "bernoulli", "rate": [0.0, 0.1, 0.5, 0.9, 0.2], "noise": 0.1, "targets": "row"},
]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(WORLDS))
def test_oracle_is_the_posterior(index: int, triggers: dict) -> None:
    vocab = 5 if triggers.get("kind") == "bernoulli" else 7
    sandbox = world(vocab=vocab, seq_len=12, rows={"high": 1.5}, triggers=only(triggers))
    tokens = sandbox.sequences(1, index, 1)
    law = sandbox.law(tokens).exp()[0]
    for pos in range(0, tokens.shape[1], 3):
        expected = brute_force(sandbox, tokens[0, : pos + 1].tolist())
        np.testing.assert_allclose(law[pos], expected, atol=2e-6)


def test_after_equal_successors_the_posterior_has_its_closed_form() -> None:
    """P(trigger) = rho·mu_c / (rho·mu_c + (1-rho)·pi_c^m) after m equal successors c."""
    sandbox = world(vocab=6, rows={"high": 1.5}, triggers=only({"kind": "bernoulli", "rate": 0.25}))
    a, c, rho, mu = 2, 4, 0.25, 1 / 5
    for m in range(1, 6):
        tokens = torch.tensor([[a, c] * m + [a]])
        trigger = rho * mu / (rho * mu + (1 - rho) * sandbox.pi[a, c] ** m)
        expected = (1 - trigger) * sandbox.pi[a] + trigger * np.eye(6)[c]
        np.testing.assert_allclose(sandbox.law(tokens)[0, -1].exp(), expected, atol=1e-6)


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
    assert (labels.log_probs.argmax(-1)[certain] == sequences[:, 1:][certain]).all()
    torch.testing.assert_close(
        labels.oracle_entropy[labels.occurrence == 1],
        torch.full_like(labels.oracle_entropy[labels.occurrence == 1], np.log(sandbox.vocab - 2)),
    )


def test_entropy_rate_equals_the_mean_loss_of_the_oracle() -> None:
    sandbox = world(seq_len=64, triggers={"noise": 0.2})
    sequences = sandbox.sequences(0, 0, 2048)
    labels = sandbox.labels(sequences[:, :-1])
    loss = -labels.log_probs.gather(-1, sequences[:, 1:, None])[..., 0]
    assert loss.mean() == pytest.approx(float(labels.oracle_entropy.mean()), abs=0.01)
