"""The count table against the theory that it is the null model of: what n visits to a row leave to be wrong by."""

import numpy as np
import pytest
import torch

from mechdistill.objective import Table
from tests.helpers import world

ALPHA, EPSILON = 0.5, 0.15


def test_the_errors_of_the_table_are_those_of_theory() -> None:
    """E squared error = (1-alpha)²·v/n + alpha²·b and, with half a label of each and alpha 0, E KL = (s-1)/2n."""
    sandbox = world(vocab=6, seq_len=40, rows={"low": 1.2, "high": 1.7}, triggers={"count": 0})
    pi = torch.tensor(sandbox.pi)
    teacher = ((1 - EPSILON) * pi + EPSILON / 6).float()
    v, b = 1 - pi.square().sum(1), (teacher - pi).square().sum(1)
    n, error, kl = [], [], []
    for seed in range(300):
        sequences = sandbox.sequences(seed, 0, 20)
        rows, labels = sequences[:, :-1], sequences[:, 1:]
        ones = torch.ones(rows.shape)
        plain, distilled = Table(6), Table(6)
        plain.tell(rows, labels, ones)
        distilled.tell(rows, labels, (1 - ALPHA) * ones)
        distilled.tell_sample(rows, labels, 0 * ones, teacher[rows], ALPHA * ones, 1.0)
        n.append(torch.bincount(rows.flatten(), minlength=6).double())
        error.append((distilled.law() - pi).square().sum(1))
        kl.append((pi * (pi / plain.law(pseudo_count=0.5)).log()).sum(1))
    each = 1 / torch.stack(n)
    predicted = (1 - ALPHA) ** 2 * v * each + ALPHA**2 * b
    ratio = torch.stack(error).mean(0) / predicted.mean(0)
    np.testing.assert_allclose(ratio, 1, atol=0.1)
    assert float(ratio.mean()) == pytest.approx(1, abs=0.03)
    assert float(torch.stack(kl).mean() / (5 / 2 * each).mean()) == pytest.approx(1, abs=0.05)


def test_a_sample_stands_for_the_whole_row_by_row() -> None:
    """However often a row comes up in the sample: its law counts by the row's visits, and an unasked row has labels."""
    rows, labels = torch.tensor([[0, 0, 0, 1, 1]]), torch.tensor([[1, 1, 0, 0, 0]])
    table = Table(3)
    table.tell(rows, labels, torch.full((1, 5), 0.5))
    law = torch.tensor([[[0.0, 0.0, 1.0]]])
    one = torch.ones(1, 1)
    table.tell_sample(rows[:, :1], labels[:, :1], 0 * one, law, 0.5 * one, 5.0)
    expected = [[1 / 6, 1 / 3, 1 / 2], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]
    torch.testing.assert_close(table.law(), torch.tensor(expected, dtype=torch.float64))
