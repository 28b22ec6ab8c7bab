"""An experiment of many arms and seeds: killed, resumed, extended, broken in places; and what it will cost."""

import os
import signal
import time
from pathlib import Path

import pytest

from mechdistill.config import ExperimentConfig, expand, load_experiment, preset_names
from mechdistill.errors import MechdistillError
from mechdistill.training import estimate, train
from tests.helpers import micro, only
from tests.training.test_training import fingerprints, of_runs, opened, start_in_the_background, states

TWELVE = {
    "spt": {},
    "spt-2x": {"training": {"tokens": 16 * 4 * 48}},
    "spt-downweight": {"ce_weights": {"copyable": 0.1}},
    "spt-wide": {"model": {"d_model": 32}},
    "dpt-50": {"alpha": 0.5, "teacher": "young"},
    "dpt-90": {"alpha": 0.9, "teacher": "young"},
    "dpt-90-ema": {"alpha": 0.9, "teacher": "self"},
    "dpt-90-drawn": {"alpha": 0.9, "teacher": "drawn"},
    "dpt-90-routed": {"alpha": 0.9, "teacher": "young", "routing": {"signal": "teacher-entropy", "quantile": 0.15}},
    "dpt-90-random": {"alpha": 0.9, "teacher": "young", "routing": {"signal": "random", "quantile": 0.15}},
    "smoothing": {"label_smoothing": {"match": "dpt-90"}},
    "scarce": {
        "alpha": 0.9,
        "teacher": "perfect",
        "sandbox": {"triggers": {"count": 0}},
        "training": {"unique_sequences": 8},
    },
}


def twelve(**changes) -> ExperimentConfig:
    teachers = {
        "perfect": {"kind": "oracle"},
        "self": {"kind": "ema", "decay": 0.9},
        "drawn": {"kind": "sampled", "of": "young", "n": 2},
    }
    return micro(**{"teachers": teachers, "arms": only(TWELVE), "seeds": [0, 1, 2], **changes})


def finished_runs(out: Path) -> int:
    return sum('"finished"' in path.read_text() for path in of_runs(out, "status.json"))


@pytest.mark.slow
def test_twelve_arms_of_three_seeds_killed_half_way_and_rerun_and_extended(tmp_path: Path) -> None:
    """Bit-equal to one never killed; then one seed more, which touches nothing of what was there."""
    config = twelve()
    total = len(expand(config))
    assert total == 12 * 3 + 3
    assert states(train(config, tmp_path / "unbroken", jobs=2)) == {"finished"}

    out = tmp_path / "killed"
    process = start_in_the_background(config, out, jobs=2)
    deadline = time.monotonic() + 120
    while finished_runs(out) < total // 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, "it was over before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert total // 2 <= finished_runs(out) < total
    assert states(train(config, out, jobs=2)) == {"finished"}
    assert fingerprints(out) == fingerprints(tmp_path / "unbroken")

    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("seed-*/**/*") if path.is_file()}
    assert states(train(twelve(seeds=[3]), out, jobs=2)) == {"finished"}
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert len(opened(out).runs) == total + 13
    assert opened(out).config.seeds == (0, 1, 2, 3)

    with pytest.raises(MechdistillError, match=r"^arms\.dpt-50\.alpha=0\.6: .* was made with 0\.5"):
        train(twelve(arms=only({**TWELVE, "dpt-50": {"alpha": 0.6, "teacher": "young"}})), out)


def test_a_failed_run_stops_no_other_and_is_reported_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mechdistill.training._trainer import Trainer

    step = Trainer.train_step

    def broken(self: Trainer) -> None:
        if self.config.treatment == "dpt" and self.step == 7:
            raise ZeroDivisionError("a bug of ours")
        step(self)

    monkeypatch.setattr(Trainer, "train_step", broken)
    outcomes = {outcome.run: outcome for outcome in train(micro(seeds=[0, 1]), tmp_path / "x")}
    for seed in (0, 1):
        outcome = outcomes[f"dpt/seed-{seed}"]
        assert outcome.state == "failed"
        log = tmp_path / f"x/dpt/seed-{seed}/error.log"
        assert str(log) in str(outcome.message)
        assert "ZeroDivisionError: a bug of ours" in log.read_text()
        assert outcomes[f"spt/seed-{seed}"].state == "finished"
    monkeypatch.undo()
    assert states(train(micro(seeds=[0, 1]), tmp_path / "x")) == {"finished"}
    train(micro(seeds=[0, 1]), tmp_path / "whole")
    assert fingerprints(tmp_path / "x") == fingerprints(tmp_path / "whole")


def test_a_teacher_of_the_same_data_sees_its_students_sequences_from_other_weights(tmp_path: Path) -> None:
    config = micro(teachers={"young": {"data": "same"}}, seeds=[0, 1])
    runs = {str(run.path): run for run in expand(config)}
    for seed in (0, 1):
        teacher, student = runs[f"teachers/young/seed-{seed}"], runs[f"dpt/seed-{seed}"]
        assert teacher.data_seed == student.data_seed
        assert teacher.init_seed != student.init_seed
    with pytest.raises(MechdistillError, match="data=same: needs seed=per-student"):
        micro(teachers={"young": {"data": "same", "seed": 3}})


def test_the_cost_counts_runs_tokens_and_bytes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    config = twelve()
    runs = expand(config)
    cost = estimate(config, runs, jobs=2)
    out = tmp_path / "x"
    train(micro(), out)
    trained = expand(micro())
    assert cost.runs == 39
    assert cost.tokens == 3 * 16 * 4 * (10 * 24 + 48 + 24 + 8)
    assert 0 < cost.seconds < 600
    found = sum(path.stat().st_size for path in out.rglob("checkpoints/*"))
    assert estimate(micro(), trained, jobs=1).bytes == pytest.approx(found, rel=0.5)


def test_the_cost_of_a_branch_is_what_it_adds() -> None:
    schedule = {"schedule": "trunk", "branches": [16 * 4 * 24], "anneal": 0.25}
    config = micro(arms=only({"spt": {"training": schedule}}))
    assert estimate(config, expand(config), jobs=1).tokens == 16 * 4 * (24 + 6)


def test_nothing_costs_nothing() -> None:
    assert estimate(micro(), [], jobs=2)[:2] == (0, 0)


def test_the_presets_of_the_study_have_the_arms_that_it_needs() -> None:
    core = load_experiment(preset_name="paper")
    assert set(core.arms) == {
        *("spt", "spt-2x", "spt-downweight", "dpt-50", "dpt-90"),
        *("dpt-90-half-formed", "dpt-90-oracle", "dpt-90-routed", "dpt-90-random-route"),
    }
    assert len(core.seeds) == 10
    full = load_experiment(preset_name="paper-full")
    assert {name: full.arms[name] for name in core.arms} == dict(core.arms), "the core is part of the whole"
    kinds = {teacher.kind for teacher in full.teachers.values()}
    assert {"oracle", "bigram", "noisy", "permuted", "tilted", "top-k", "splice", "sampled", "checkpoint"} <= kinds
    names = {run.treatment for run in expand(full)}
    assert {"trunk-spt-at-2000000", "trunk-dpt-90-at-4000000", "scarce-dpt-90", "label-smoothing"} <= names
    assert {"omit", "hybrid", "opposite-route", "opposite-route-per-term", "opposite-route-reverse"} <= names
    assert {"scarce-dpt-90-late", "scarce-dpt-90-tilted", "scarce-dpt-90-top-1", "scarce-spt-2x"} <= names
    assert {"paper", "paper-full", "routing", "routes"} <= set(preset_names())


def test_the_two_presets_can_share_a_directory(tmp_path: Path) -> None:
    """paper extends to paper-full but for its name, so nothing of the core has to be trained twice."""
    core, full = load_experiment(preset_name="paper"), load_experiment(preset_name="paper-full")
    ours = {run.path: run.model_copy(update={"experiment": "x"}) for run in expand(core)}
    theirs = {run.path: run.model_copy(update={"experiment": "x"}) for run in expand(full)}
    assert all(theirs[path] == run for path, run in ours.items())
