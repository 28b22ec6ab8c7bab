"""The tabular null: position by position it is the sum that its formula says, and what a trained table comes to."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram
from mechdistill.runs import Experiment, Run
from mechdistill.training import train
from mechdistill.training._distillation import _tabular
from tests.helpers import micro, only
from tests.training.test_training import opened

ARMS: dict[str, Any] = {
    "spt": {},
    "dpt": {"alpha": 0.9, "teacher": "young"},
    "weighted": {
        "alpha": 0.6,
        "teacher": "young",
        "temperature": 2.0,
        "label_smoothing": 0.2,
        "ce_weights": {"first": 2.0, "copyable": 0.5},
    },
    "ramp": {"alpha": {"kind": "linear", "start": 0.9, "end": 0.1}, "teacher": "young"},
    "routed": {
        "alpha": 0.9,
        "teacher": "young",
        "routing": {"signal": "teacher-entropy", "quantile": 0.25, "keep": 1},
    },
    "by-student": {"alpha": 0.9, "teacher": "young", "routing": {"signal": "student-entropy", "quantile": 0.25}},
    "reverse": {"alpha": 0.9, "teacher": "young", "divergence": {"kind": "reverse-kl"}},
}


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("tabular") / "x"
    train(micro(arms=only(ARMS)), out)
    return opened(out)


def law(model: Bigram) -> NDArray[np.float64]:
    assert isinstance(model, Bigram)
    return model.table.double().softmax(-1).numpy()


def brute_force(run: Run, steps: int) -> NDArray[np.float64]:
    """The formula, one position after the other, from the arm as its file says it."""
    arm, world, batch = ARMS[run.config.treatment], run.sandbox, run.config.training.batch
    k, length = world.vocab, world.seq_len
    teacher = Run(run.path.parents[1] / "teachers/young/seed-0").model("last")
    sequences = world.sequences(run.config.data_seed, 0, steps * batch)
    with torch.no_grad():
        log_probs = teacher(sequences[:, :-1]).log_softmax(-1).double().numpy()
    soft_laws = np.exp(log_probs / arm.get("temperature", 1.0))
    soft_laws /= soft_laws.sum(-1, keepdims=True)
    entropies = -(np.exp(log_probs) * log_probs).sum(-1)
    smoothing, weights = arm.get("label_smoothing", 0.0), arm.get("ce_weights", {})
    told, total = np.zeros((k, k)), np.zeros(k)
    for number, sequence in enumerate(sequences.tolist()):
        seen: dict[int, int] = {}
        routed = set(np.argsort(entropies[number])[: int(0.25 * length)]) if "routing" in arm else set()
        for position, (token, following) in enumerate(pairwise(sequence)):
            alpha = arm.get("alpha", 0.0)
            if isinstance(alpha, dict):
                alpha = 0.9 - 0.8 * (number // batch) / run.config.steps
            kind = "ordinary"
            if token in world.triggers:
                seen[token] = seen.get(token, 0) + 1
                kind = "first" if seen[token] == 1 else "copyable"
            w, a = (1 - alpha) * weights.get(kind, 1.0), alpha
            if position in routed:
                w, a = 1.0, 0.0
            label = np.full(k, smoothing / k)
            label[following] += 1 - smoothing
            told[token] += w * label + a * soft_laws[number, position]
            total[token] += w + a
    return np.where(total[:, None] > 0, told / np.maximum(total, 1e-9)[:, None], 1 / k)


@pytest.mark.parametrize("arm", ["spt", "dpt", "weighted", "ramp", "routed"])
def test_it_is_its_formula_position_by_position(arms: Experiment, arm: str) -> None:
    run = arms.run(f"{arm}/seed-0")
    batch = run.config.training.batch * run.sandbox.seq_len
    for steps in (3, run.config.steps):
        found = law(md.tabular_null(run, steps * batch, pseudo_count=0))
        np.testing.assert_allclose(found, brute_force(run, steps), atol=2e-6)
    np.testing.assert_array_equal(law(md.tabular_null(run, pseudo_count=0)), found)
    np.testing.assert_allclose(law(md.tabular_null(run, 0)), 1 / run.sandbox.vocab)


def test_counts_that_nobody_has_seen_are_half_a_label_each(arms: Experiment) -> None:
    run = arms.run("spt/seed-0")
    sequences = run.sandbox.sequences(0, 0, run.config.steps * 4).numpy()
    counts = np.zeros((12, 12))
    np.add.at(counts, (sequences[:, :-1], sequences[:, 1:]), 1)
    expected = (counts + 0.5) / (counts.sum(1, keepdims=True) + 6)
    np.testing.assert_allclose(law(md.tabular_null(run)), expected, rtol=1e-5)


def test_a_sample_of_the_teacher_is_near_the_whole(arms: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """And labels, whose noise is what a table is about, are never sampled."""
    run = arms.run("dpt/seed-0")
    whole, plain = law(md.tabular_null(run)), law(md.tabular_null(arms.run("spt/seed-0")))
    monkeypatch.setattr(_tabular, "ASKED", 512)
    sample = law(md.tabular_null(run))
    assert 0 < np.abs(sample - whole).max() < 0.05
    np.testing.assert_array_equal(law(md.tabular_null(arms.run("spt/seed-0"))), plain)


def test_a_trained_table_converges_to_it(tmp_path: Path) -> None:
    """The design's free test: the `bigram` model without weight decay, over few sequences again and again."""
    config = micro(
        model=only({"kind": "bigram"}),
        teachers=only({"noisy": {"kind": "noisy", "epsilon": 0.2}}),
        arms=only({"dpt": {"alpha": 0.5, "teacher": "noisy"}}),
        training={
            "tokens": 16 * 32 * 300,
            "batch": 32,
            "unique_sequences": 32,
            "lr": 0.1,
            "weight_decay": 0.0,
            "checkpoint_every": 300,
            "evaluate_every": 300,
        },
    )
    train(config, tmp_path / "x")
    run = opened(tmp_path / "x").run("dpt/seed-0")
    trained, untrained = run.model(), run.model(0)
    assert isinstance(trained, Bigram)
    assert isinstance(untrained, Bigram)
    null = law(md.tabular_null(run, pseudo_count=0))
    np.testing.assert_allclose(law(trained), null, atol=1e-3)
    assert np.abs(law(untrained) - null).max() > 0.3


def test_what_has_no_closed_form_is_refused_and_so_is_what_is_no_run(arms: Experiment) -> None:
    for arm, what in (("by-student", "routing.signal=student-entropy"), ("reverse", "divergence=reverse-kl")):
        with pytest.raises(MechdistillError, match=what):
            md.tabular_null(arms.run(f"{arm}/seed-0"))
    run: Any = arms.run("spt/seed-0")
    for call in (
        lambda: md.tabular_null(run, run.config.training.tokens + 1),
        lambda: md.tabular_null(run, -1),
        lambda: md.tabular_null(run, pseudo_count=float("nan")),
        lambda: md.tabular_null(run.path),
    ):
        with pytest.raises(MechdistillError):
            call()
