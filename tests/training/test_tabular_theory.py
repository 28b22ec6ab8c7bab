"""The null model against its theory, in squared error: which rows distillation helps, and where it stops helping.

A table that has seen a row n times estimates it with error v/n, v = 1 - Σπ². Mixed with a teacher at squared distance
b from the row its error is (1-α)²·v/n + α²·b, so distillation helps iff n < (2-α)/α · v/b; and if the teacher is a
count of m tokens that contain the student's, iff n < m, whatever α. Source: after Menon et al. 2021.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mechdistill.config import RunConfig, expand
from mechdistill.model import build
from mechdistill.sandbox import Sandbox
from mechdistill.training._distillation import Distillation
from mechdistill.world import Batch
from tests.helpers import micro, only

VOCAB, LENGTH = 8, 32


def run_config(arm: dict[str, Any], teacher: dict[str, Any]) -> RunConfig:
    config = micro(
        sandbox={"vocab": VOCAB, "seq_len": LENGTH, "rows": {"low": 0.3, "high": 2.0}, "triggers": {"count": 0}},
        model={"kind": "bigram"},
        teachers=only({"t": teacher}),
        arms=only({"x": arm}),
    )
    return expand(config)[-1]


def converged(config: RunConfig, sandbox: Sandbox, seed: int, sequences: int) -> NDArray[np.float64]:
    """The rows of the table that minimises the arm's own loss on the first sequences of a data seed."""
    data = sandbox.training(seed)
    batch: Batch = data.batch(0, sequences)
    distillation = Distillation(config.model_copy(update={"seed": seed, "data_seed": seed}), sandbox, data, "cpu")
    model = build(config.model, d_vocab=VOCAB, n_ctx=LENGTH, init_seed=0)
    minimise = torch.optim.LBFGS(
        model.parameters(), max_iter=300, tolerance_grad=1e-7, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        minimise.zero_grad()
        loss = distillation.loss(model(batch.tokens), batch, 0, model)[0]
        loss.backward()
        return loss

    minimise.step(closure)
    return model.table.detach().double().softmax(-1).numpy()


class Measured(NamedTuple):
    """For each row: visits, and the mean squared error of the student with and without distillation."""

    visits: NDArray[np.float64]  # harmonic mean over seeds, since errors go as 1/n; 0 if a seed never saw the row
    spt: NDArray[np.float64]
    dpt: NDArray[np.float64]


def measured(arm: dict[str, Any], teacher: dict[str, Any], sequences: int, seeds: int) -> Measured:
    config, plain = run_config(arm, teacher), run_config({}, {"kind": "oracle"})
    sandbox = Sandbox(config.sandbox)
    visits, spt, dpt = [], [], []
    for seed in range(seeds):
        tokens = sandbox.sequences(seed, 0, sequences)[:, :-1]
        visits.append(np.bincount(tokens.flatten(), minlength=VOCAB))
        errors = [
            ((converged(each, sandbox, seed, sequences) - sandbox.pi) ** 2).sum(axis=1) for each in (plain, config)
        ]
        spt.append(errors[0])
        dpt.append(errors[1])
    with np.errstate(divide="ignore"):
        harmonic = 1 / np.mean(1 / np.array(visits), axis=0)
    return Measured(harmonic, np.mean(spt, axis=0), np.mean(dpt, axis=0))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_a_false_teacher_helps_exactly_the_rows_visited_less_than_the_crossover(alpha: float) -> None:
    sandbox = Sandbox(run_config({}, {"kind": "oracle"}).sandbox)
    epsilon = 0.15
    v = 1 - (sandbox.pi**2).sum(axis=1)
    b = epsilon**2 * ((1 / VOCAB - sandbox.pi) ** 2).sum(axis=1)
    crossover = (2 - alpha) / alpha * v / b
    teacher = {"kind": "noisy", "epsilon": epsilon}
    checked = set()
    for sequences in (4, 16, 64):
        found = measured({"alpha": alpha, "teacher": "t"}, teacher, sequences, seeds=40)
        clear = (found.visits < crossover / 1.5) | (found.visits > crossover * 1.5)
        helped = found.dpt < found.spt
        predicted = found.visits < crossover
        assert (helped == predicted)[clear].all(), (sequences, found.visits, crossover, found.spt, found.dpt)
        checked |= set(predicted[clear])
        # and not only the sign: both risks are those of the theory
        well = found.visits > 10
        spt = v[well] / found.visits[well]
        dpt = (1 - alpha) ** 2 * spt + alpha**2 * b[well]
        np.testing.assert_allclose(found.spt[well], spt, rtol=0.5)
        np.testing.assert_allclose(found.dpt[well], dpt, rtol=0.5)
        if well.any():
            assert np.mean(found.dpt[well] / dpt) == pytest.approx(1, abs=0.15), (found.dpt[well], dpt)
    assert checked == {True, False}, "both sides of the crossover were seen"


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 0.9])
def test_a_count_of_the_same_data_helps_until_the_student_has_seen_as_much(alpha: float) -> None:
    """m is 32 sequences: the same rows flip at n = m for every alpha; at n = m nothing changes at all."""
    m = 32
    teacher = {"kind": "count", "tokens": m * LENGTH, "data": "same"}
    before, at, after = (
        measured({"alpha": alpha, "teacher": "t"}, teacher, sequences, seeds=40) for sequences in (m // 4, m, 4 * m)
    )
    assert (before.dpt < before.spt).all()
    np.testing.assert_allclose(at.dpt, at.spt, rtol=2e-2)
    assert (after.dpt > after.spt).all()
    # nested data: the errors of a part and of the whole share what the part has seen
    v = 1 - (Sandbox(run_config({}, {"kind": "oracle"}).sandbox).pi ** 2).sum(axis=1)
    for found in (before, after):
        seen = found.visits > 0  # in every seed
        n, whole = found.visits[seen], at.visits[seen]
        shared = np.maximum(n, whole)
        risk = v[seen] * ((1 - alpha) ** 2 / n + alpha**2 / whole + 2 * alpha * (1 - alpha) / shared)
        assert seen.sum() >= VOCAB // 2
        assert np.mean(found.dpt[seen] / risk) == pytest.approx(1, abs=0.15), found.dpt[seen] / risk


@pytest.mark.slow
def test_fresh_data_of_the_same_amount_help_where_the_same_data_change_nothing() -> None:
    m = 32
    counts = {"kind": "count", "tokens": m * LENGTH, "data": "fresh"}
    fresh = measured({"alpha": 0.5, "teacher": "t"}, counts, m, seeds=40)
    assert (fresh.dpt < fresh.spt).all()
    assert np.mean(fresh.dpt / fresh.spt) == pytest.approx(0.5, abs=0.1), "twice the data, half the error"
