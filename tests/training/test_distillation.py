"""Every teacher and objective inside real training: it runs, resumes to the bit, and its metrics say what it did."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import mechdistill as md
from mechdistill.config import ExperimentConfig
from mechdistill.errors import MechdistillError
from mechdistill.laws import cross_entropy, forward_kl
from mechdistill.positions import EvaluationSet
from mechdistill.runs import Experiment
from mechdistill.training import train
from tests.helpers import micro, only, transformer, world
from tests.training.test_training import fingerprints, opened, states

TEACHERS: dict[str, Any] = {
    "oracle": {"kind": "oracle"},
    "blind": {"kind": "bigram"},
    "flat": {"kind": "uniform"},
    "noisy": {"kind": "noisy", "epsilon": 0.2, "below": 0.5},
    "counted": {"kind": "count", "tokens": 1000, "data": "same"},
    "growing": {"kind": "progressive", "of": "young", "stages": [[0, 0.25], [0.5, 1.0]]},
    "mean": {"kind": "ensemble", "of": ["young", "blind"]},
    "tuned": {"kind": "tilted"},
    "self": {"kind": "ema", "decay": 0.9},
    "spliced": {"kind": "splice", "copyable": "young", "elsewhere": "oracle"},
    "soft": {"kind": "temperature", "of": "young", "temperature": 2.0},
    "top": {"kind": "top-k", "of": "noisy", "k": 2, "tail": "bucket"},
    "drawn": {"kind": "sampled", "of": "mean", "n": 2},
    "wrong": {"kind": "permuted"},
}

OBJECTIVES: dict[str, Any] = {
    "fading": {"alpha": {"kind": "linear", "start": 0.9, "end": 0.0}},
    "staged": {"alpha": {"kind": "stages", "stages": [[0, 0.9], [0.5, 0.0]]}},
    "best": {"alpha": {"kind": "optimal"}},
    "sparing": {"alpha": {"kind": "by-occurrence", "ordinary": 0.9, "first": 0.9, "copyable": 0.0}},
    "reverse": {"divergence": "reverse-kl"},
    "jsd": {"divergence": {"kind": "jsd", "beta": 0.3}},
    "tv": {"divergence": "total-variation"},
    "both": {"temperature": 2.0, "soften": "both"},
    "routed": {"routing": {"signal": "teacher-entropy", "quantile": 0.15}},
    "opposite": {
        "alpha": 1.0,
        "routing": {"signal": "teacher-entropy", "tail": "high", "quantile": 0.75, "keep": 1},
        "normalise": "per-term",
    },
    "blind-opposite": {
        "alpha": 1.0,
        "routing": {"signal": "random", "quantile": 0.75, "keep": 1},
        "normalise": "per-term",
    },
    "placebo": {"routing": {"signal": "random", "quantile": 0.15}},
    "by-student": {"routing": {"signal": "student-teacher-kl", "tail": "low", "nats": 0.004, "keep": 1}},
    "matched": {"alpha": 0.0, "teacher": None, "label_smoothing": {"match": "young"}},
    "downweight": {"alpha": 0.0, "teacher": None, "ce_weights": {"copyable": 0.1}},
}


def everything(**changes: Any) -> ExperimentConfig:
    arms: dict[str, Any] = {"spt": {}, "young": {"alpha": 0.9, "teacher": "young"}}
    arms |= {name: {"alpha": 0.9, "teacher": name} for name in TEACHERS}
    arms |= {name: {"alpha": 0.9, "teacher": "young", **arm} for name, arm in OBJECTIVES.items()}
    return micro(teachers=TEACHERS, arms=only(arms), **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("everything") / "x"
    outcomes = train(everything(), out)
    assert states(outcomes) == {"finished"}, [o for o in outcomes if o.state != "finished"]
    return opened(out)


def values(run: md.Run, metric: str, **where: Any) -> pd.Series:
    rows = run.metrics()
    rows = rows[rows["metric"] == metric]
    for column, value in where.items():
        rows = rows[rows[column].isna() if value is None else rows[column] == value]
    return rows.set_index("step")["value"]


def test_every_treatment_changes_the_weights_and_no_two_are_the_same(whole: Experiment) -> None:
    digests = {run.name: run.weights_digest() for run in whole.runs}
    starts = {run.weights_digest(0) for run in whole.runs if not run.config.is_teacher}
    assert len(starts) == 1, "twins start from the same weights"
    assert len(set(digests.values())) == len(digests), "an option that is dropped gives the bits of its twin"


@pytest.mark.slow
def test_every_treatment_resumes_to_the_bit(whole: Experiment, tmp_path: Path) -> None:
    for _ in range(200):
        count = iter(range(17))
        outcomes = train(everything(), tmp_path / "x", stopped=lambda count=count: next(count, None) is None)
        if states(outcomes) == {"finished"}:
            break
    assert fingerprints(tmp_path / "x") == fingerprints(whole.path)


def test_the_quality_of_every_teacher_is_stored_with_its_run(whole: Experiment) -> None:
    for run in whole.runs:
        if run.config.objective.teacher is None:
            assert (run.targets() is None) == (run.config.objective.label_smoothing == 0)
            assert not run.metrics()["metric"].str.startswith("teacher-").any()
            continue
        table = run.targets()
        assert table is not None
        assert {"squared-error", "copy-accuracy", "no-matching-accuracy"} <= set(table["metric"]), run.name
        assert len(values(run, "teacher-squared-error", bucket=None)) >= 1
        assert set(values(run, "teacher-copy-mass").between(0, 1)) == {True}
    oracle, blind = whole.run("oracle/seed-0"), whole.run("blind/seed-0")
    assert values(oracle, "teacher-kl", bucket=None)[0] == pytest.approx(0, abs=1e-6)
    assert values(oracle, "teacher-copy-accuracy")[0] == values(oracle, "teacher-copy-mass")[0] == 1
    assert values(blind, "teacher-kl", bucket=None)[0] == pytest.approx(0, abs=1e-6)
    assert values(blind, "teacher-copy-mass")[0] < 0.5


def test_a_checkpoint_teachers_quality_is_that_of_its_own_last_evaluation(whole: Experiment) -> None:
    teacher, student = whole.run("teachers/young/seed-0"), whole.run("young/seed-0")
    last = values(teacher, "kl", bucket=None, occurrence="0")
    assert values(student, "teacher-kl", bucket=None)[0] == pytest.approx(last[teacher.steps[-1]], rel=1e-5)


def test_teachers_that_change_are_measured_again_and_others_once(whole: Experiment) -> None:
    for name, changes in (("oracle", False), ("young", False), ("self", True), ("growing", True), ("drawn", True)):
        steps = values(whole.run(f"{name}/seed-0"), "teacher-squared-error", bucket=None)
        assert (len(steps) > 1) == changes, name
    growing = values(whole.run("growing/seed-0"), "teacher-squared-error", bucket=None)
    assert growing[growing.index < 12].nunique() == 1
    assert growing[growing.index >= 12].nunique() == 1
    assert growing.nunique() == 2, "one checkpoint, then another"


def test_a_teacher_that_excludes_what_can_happen_has_missing_mass_instead_of_a_kl(whole: Experiment) -> None:
    drawn = whole.run("drawn/seed-0")
    assert (values(drawn, "teacher-missing-mass") > 0.01).all()
    assert values(drawn, "teacher-kl", bucket=None).empty


def test_realised_routing_is_logged_at_every_evaluation(whole: Experiment) -> None:
    evaluations = set(values(whole.run("spt/seed-0"), "loss").index)
    for name in ("routed", "placebo"):
        fraction = values(whole.run(f"{name}/seed-0"), "routed-fraction")
        assert set(fraction.index) == evaluations
        assert set(fraction) == {2 / 16}  # 15 % of 16 positions, to the nearest
    for name in ("routed", "placebo", "by-student"):
        run = whole.run(f"{name}/seed-0")
        for metric in ("routing-precision", "routing-recall"):
            assert values(run, metric).between(0, 1).all()
    assert values(whole.run("spt/seed-0"), "routed-fraction").empty


def test_alpha_schedules_and_weights_are_logged_as_they_were(whole: Experiment) -> None:
    fading = values(whole.run("fading/seed-0"), "distillation-weight")
    np.testing.assert_allclose(fading, 0.9 * (1 - fading.index.to_numpy(dtype=float) / 24), rtol=1e-6)
    assert set(values(whole.run("spt/seed-0"), "distillation-weight")) == {0}


def test_floor_and_learner_add_up_to_the_kl(whole: Experiment) -> None:
    for name in ("spt", "young", "placebo", "fading", "best", "matched"):
        run = whole.run(f"{name}/seed-0")
        total = values(run, "kl", bucket=None, occurrence="0")
        floor, learner = (values(run, metric, bucket=None, occurrence="0") for metric in ("floor", "learner"))
        np.testing.assert_allclose(floor + learner, total, rtol=1e-5, atol=1e-6)
        assert (floor >= -1e-6).all()
    assert (values(whole.run("spt/seed-0"), "floor", bucket=None) == 0).all()
    assert (values(whole.run("downweight/seed-0"), "floor", bucket=None) == 0).all()
    assert (values(whole.run("young/seed-0"), "floor", bucket=None) > 0.001).all()
    for name in ("reverse", "jsd", "tv", "both", "routed", "by-student", "self"):
        assert values(whole.run(f"{name}/seed-0"), "floor").empty, "not known: no floor is claimed"


def test_matched_smoothing_has_the_floor_of_the_arm_it_matches(whole: Experiment) -> None:
    """Over the 256 sequences that it is matched on; at one position they differ, that is the point."""
    distilled, smoothed = whole.run("young/seed-0"), whole.run("matched/seed-0")
    means = []
    for run in (distilled, smoothed):
        floors = [values(run, "floor", bucket=None, occurrence=occurrence)[0] for occurrence in ("0", "1", "2+")]
        data = EvaluationSet.held_out(run.sandbox, 16)
        share = [m.float().mean().item() for m in (data.ordinary, data.first, data.copyable)]
        means.append(np.dot(floors, share))
    assert means[0] == pytest.approx(means[1], rel=0.15)
    assert 0 < values(smoothed, "label-smoothing")[0] < 1


def test_row_curves_carry_the_floor_of_runs_with_a_teacher(whole: Experiment) -> None:
    curves = md.row_curves(whole.run("young/seed-0"), "last")
    floor = curves[(curves["metric"] == "floor") & (curves["occurrence"] == "0")]
    by_row = curves[curves["row"].notna()].pivot(index="row", columns="metric", values="value").dropna()
    assert len(by_row) > 3
    np.testing.assert_allclose(by_row["learner"] + by_row["floor"], by_row["kl"], atol=1e-12)
    kl = curves[(curves["metric"] == "kl") & (curves["occurrence"] == "0")]
    assert set(floor["row"]) == set(kl["row"])
    assert floor[["run", "arm", "seed", "step", "tokens"]].equals(
        kl[["run", "arm", "seed", "step", "tokens"]].set_axis(floor.index)
    )
    assert "floor" not in set(md.row_curves(whole.run("spt/seed-0"), "last")["metric"])


def test_soft_cross_entropy_and_kl_are_logged_by_name_and_differ_by_the_teachers_entropy(whole: Experiment) -> None:
    run = whole.run("flat/seed-0")
    kl, soft = values(run, "train-forward-kl"), values(run, "train-soft-cross-entropy")
    np.testing.assert_allclose(soft - kl, np.log(12), rtol=1e-5)
    assert not values(whole.run("jsd/seed-0"), "train-jsd").empty
    assert values(whole.run("spt/seed-0"), "train-forward-kl").empty


def test_an_earlier_run_can_be_the_teacher(trained: Experiment, tmp_path: Path) -> None:
    earlier = {"kind": "checkpoint", "run": str(trained.path / "teachers/young/seed-0"), "step": "last"}
    config = micro(teachers={"young": only(earlier)})
    assert states(train(config, tmp_path / "x")) == {"finished"}
    theirs = opened(tmp_path / "x").run("dpt/seed-0")
    assert theirs.weights_digest() == trained.run("dpt/seed-0").weights_digest(), "the same teacher, the same bits"


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nowhere", "nowhere: no such directory"),
        ("", "is an experiment; name one of its runs"),
        ("spt/seed-0", "has no checkpoint there; the nearest is 24"),
    ],
)
def test_an_earlier_run_that_does_not_serve_is_refused_before_anything_is_written(
    trained: Experiment, tmp_path: Path, run: str, message: str
) -> None:
    earlier = {"kind": "checkpoint", "run": run if run == "nowhere" else str(trained.path / run), "step": 999}
    with pytest.raises(MechdistillError, match=message):
        train(micro(teachers={"young": only(earlier)}), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_earlier_run_of_another_world_is_refused(trained: Experiment, tmp_path: Path) -> None:
    earlier = {"kind": "checkpoint", "run": str(trained.path / "spt/seed-0")}
    with pytest.raises(MechdistillError, match="knows 12 tokens, the student"):
        train(micro(sandbox={"vocab": 13}, teachers={"young": only(earlier)}), tmp_path / "x")


def test_reverse_kl_against_an_excluding_teacher_fails_loudly_and_trains_nothing_else(tmp_path: Path) -> None:
    config = micro(teachers=TEACHERS, arms=only({"x": {"alpha": 0.9, "teacher": "drawn", "divergence": "reverse-kl"}}))
    outcome = {o.run: o for o in train(config, tmp_path / "x")}["x/seed-0"]
    assert outcome.state == "failed"
    assert "set divergence.floor" in str(outcome.message)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "bigram"])
def test_one_label_drawn_from_the_oracle_is_standard_training_in_law(tmp_path: Path, kind: str) -> None:
    """A/A: over seeds sampled(1) of the oracle at alpha 1 and SPT do not differ, where the oracle's law itself does.

    In a chain without triggers, where the labels of a sequence are independent given their contexts. With triggers
    only the expected gradients are equal (next test): there SPT's label at a first occurrence comes again at the
    later ones, so its noise is correlated within a sequence, and fresh labels learn a little faster.
    """
    config = micro(
        sandbox={"triggers": {"count": 0}},
        model={"kind": kind},
        training={"tokens": 16 * 4 * 150, "evaluate_every": 150, "checkpoint_every": 150, "eval_sequences": 128},
        teachers=only({"oracle": {"kind": "oracle"}, "drawn": {"kind": "sampled", "of": "oracle", "n": 1}}),
        arms=only({"spt": {}, "aa": {"alpha": 1.0, "teacher": "drawn"}, "soft": {"alpha": 1.0, "teacher": "oracle"}}),
        seeds=list(range(24)),
    )
    assert states(train(config, tmp_path / "x")) == {"finished"}
    metrics = pd.concat([run.metrics() for run in opened(tmp_path / "x").runs])
    last = metrics[(metrics["step"] == 150) & metrics["bucket"].isna()]
    for metric in ("loss", "kl"):
        by_arm = last[last["metric"] == metric].pivot(index="seed", columns="arm", values="value")
        assert stats.ttest_rel(by_arm["aa"], by_arm["spt"]).pvalue > 0.01, metric
        assert stats.ks_2samp(by_arm["aa"], by_arm["spt"]).pvalue > 0.01, metric
        assert stats.ttest_rel(by_arm["soft"], by_arm["spt"]).pvalue < 1e-6, "the control: softness does show"


def test_the_expected_gradient_of_labels_is_that_of_the_oracles_law() -> None:
    """What A/A rests on where there are triggers: along random directions the mean difference is no more than noise."""
    sandbox, model = world(), transformer().requires_grad_()
    generator = torch.Generator().manual_seed(0)
    directions = [[torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(4)]
    differences: list[list[float]] = []
    for number in range(150):
        batch = sandbox.batch(5, 32 * number, 32)
        log_probs = model(batch.tokens).log_softmax(-1)
        loss = cross_entropy(log_probs, batch.next_tokens) - forward_kl(sandbox.law(batch.tokens), log_probs)
        gradient = torch.autograd.grad(loss.mean(), list(model.parameters()))
        differences.append(
            [sum(float((g * u).sum()) for g, u in zip(gradient, each, strict=True)) for each in directions]
        )
    assert (stats.ttest_1samp(differences, 0).pvalue > 0.01).all()
