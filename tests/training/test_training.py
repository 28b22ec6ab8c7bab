import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from mechdistill.config import ExperimentConfig, TrainingConfig, experiment, to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run, RunWriter, load
from mechdistill.runs._weights import load_weights, save_weights
from mechdistill.training import train
from mechdistill.training._optimiser import learning_rate, optimiser
from tests.helpers import left_over, micro, transformer


def opened(path: Path) -> Experiment:
    found = load(path)
    assert isinstance(found, Experiment)
    return found


def fingerprints(path: Path) -> dict[str, tuple[list[str], str]]:
    """Every run's checkpoints and metrics, bit for bit."""
    return {
        run.name: ([run.weights_digest(step) for step in run.steps], (run.path / "metrics.jsonl").read_text())
        for run in opened(path).runs
    }


def states(outcomes: list) -> set[str]:
    return {outcome.state for outcome in outcomes}


def test_the_schedule() -> None:
    config = TrainingConfig(lr=1.0, warmup=10, schedule="cosine")
    rates = [learning_rate(config, step, 110) for step in range(110)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(rates[10:], 0.5 * (1 + np.cos(np.pi * np.arange(100) / 100)))
    assert learning_rate(TrainingConfig(lr=1.0, warmup=0, schedule="constant"), 99, 100) == 1.0


def test_weight_decay_spares_vectors() -> None:
    model = transformer()
    decayed, spared = optimiser(model, TrainingConfig(weight_decay=0.3)).param_groups
    assert decayed["weight_decay"] == 0.3
    assert spared["weight_decay"] == 0
    assert {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


def test_training_learns_and_distilling_is_no_no_operation(trained: Experiment) -> None:
    runs = {run.name: run for run in trained.runs}
    for run in runs.values():
        losses = run.metrics().query("metric == 'loss'")["value"]
        assert losses.iloc[-1] < losses.iloc[0]
    spt, dpt = runs["spt/seed-0"], runs["dpt/seed-0"]
    assert spt.weights_digest(0) == dpt.weights_digest(0), "twins start from the same weights"
    assert spt.weights_digest("last") != dpt.weights_digest("last")
    assert runs["teachers/young/seed-0"].weights_digest(0) != spt.weights_digest(0)


def test_twins_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At alpha -> 0 with any teacher the twin equals SPT, which it could not on other data."""
    config = micro(teachers={"oracle": {"kind": "oracle"}}, arms={"dpt": {"alpha": 1e-6, "teacher": "oracle"}})
    train(config, tmp_path / "x")
    runs = opened(tmp_path / "x")
    spt, dpt = runs.run("spt/seed-0").model(), runs.run("dpt/seed-0").model()
    for ours, theirs in zip(spt.parameters(), dpt.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_jobs_change_no_bits(trained: Experiment, tmp_path: Path) -> None:
    assert states(train(micro(), tmp_path / "two", jobs=2)) == {"finished"}
    assert fingerprints(tmp_path / "two") == fingerprints(trained.path)


@pytest.mark.parametrize("after", [0, 1, 7, 13, 30])
def test_an_interrupted_experiment_resumes_to_the_bit(trained: Experiment, tmp_path: Path, after: int) -> None:
    """Stopped again and again after so many steps, whatever run they fall in, then finished."""
    for _ in range(60):
        count = iter(range(after))
        outcomes = train(micro(), tmp_path / "x", stopped=lambda count=count: next(count, None) is None)
        if states(outcomes) == {"finished"}:
            break
        assert states(outcomes) & {"interrupted", "waiting"}
        if after < 2:
            train(micro(), tmp_path / "x")
    assert fingerprints(tmp_path / "x") == fingerprints(trained.path)
    assert not list((tmp_path / "x").rglob("resume")), "a finished run needs no resume state"


def start_in_the_background(config: ExperimentConfig, out: Path, jobs: int) -> subprocess.Popen:
    file = out.with_suffix(".yaml")
    file.write_text(to_yaml(config))
    command = [sys.executable, "-m", "mechdistill", "train", str(file), "--out", str(out), "--jobs", str(jobs)]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def of_runs(out: Path, file: str) -> list[Path]:
    """That file of every run that has it; looks into no directory that a run may be removing meanwhile."""
    return [*out.glob(f"*/seed-*/{file}"), *out.glob(f"teachers/*/seed-*/{file}")]


def wait_for_state(process: subprocess.Popen, out: Path) -> None:
    """Until some run of the experiment could resume, the process has ended, or a minute is over."""
    deadline = time.monotonic() + 60
    while not of_runs(out, "resume/state.safetensors") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(("jobs", "delays"), [(1, [0.15]), pytest.param(2, [0.0, 0.4], marks=pytest.mark.slow)])
def test_killed_in_mid_run_and_rerun_gives_the_bits_of_an_unbroken_run(
    tmp_path: Path, jobs: int, delays: list[float]
) -> None:
    config = micro(training={"tokens": 16 * 4 * 600}, teachers={"young": {"training": {"tokens": 16 * 4 * 200}}})
    train(config, tmp_path / "unbroken")
    out = tmp_path / "killed"
    kills = 0
    for delay in delays:
        process = start_in_the_background(config, out, jobs)
        wait_for_state(process, out)
        time.sleep(delay)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 1, "nothing was killed: make the runs longer"
    assert states(train(config, out)) == {"finished"}
    assert fingerprints(out) == fingerprints(tmp_path / "unbroken")


def test_ctrl_c_stops_cleanly_and_says_how_to_resume(tmp_path: Path) -> None:
    config = micro(training={"tokens": 16 * 4 * 4000, "checkpoint_every": 50})
    out = tmp_path / "x"
    process = start_in_the_background(config, out, jobs=2)
    wait_for_state(process, out)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130, output
    assert "run the same command again to resume" in output
    assert "Traceback" not in output
    assert {run.status["state"] for run in opened(out).runs} == {"interrupted"} or "finished" in output


def test_finished_runs_are_skipped_and_more_seeds_and_arms_extend(trained: Experiment, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained.path, tmp_path / "x"))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert states(train(micro(), out)) == {"finished"}
    extended = micro(seeds=[1], arms={"dpt-50": {"alpha": 0.5, "teacher": "young"}})
    assert states(train(extended, out)) == {"finished"}
    assert {path: path.stat().st_mtime_ns for path in before} == before, "a finished run was touched"
    config = opened(out).config
    assert config.seeds == (0, 1)
    assert list(config.arms) == ["spt", "dpt", "dpt-50"]
    names = {run.name for run in opened(out).runs}
    assert {"spt/seed-1", "dpt-50/seed-1", "teachers/young/seed-1"} <= names


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training": {"lr": 0.5}}, "training.lr=0.5"),
        ({"arms": {"dpt": {"alpha": 0.5}}}, "arms.dpt.alpha=0.5"),
        ({"sandbox": {"triggers": {"noise": 0.1}}}, "sandbox.triggers.noise=0.1"),
        ({"name": "other"}, "name='other'"),
    ],
)
def test_any_other_changed_key_is_refused_by_name(trained: Experiment, changes: dict, key: str) -> None:
    before = (trained.path / "experiment.yaml").read_text()
    with pytest.raises(MechdistillError, match="was made with") as error:
        train(micro(**changes), trained.path)
    assert str(error.value).startswith(key)
    assert (trained.path / "experiment.yaml").read_text() == before


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(MechdistillError, match="is not empty and is no experiment"):
        train(micro(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(MechdistillError, match="is no experiment"):
        train(micro(), tmp_path / "thesis.tex")


def test_a_teacher_that_misses_its_until_fails_loudly_and_stops_no_other(tmp_path: Path) -> None:
    config = micro(teachers={"young": {"until": {"copy-accuracy": 1.0}}})
    outcomes = {outcome.run: outcome for outcome in train(config, tmp_path / "x")}
    assert outcomes["teachers/young/seed-0"].state == "failed"
    assert "did not reach copy-accuracy 1" in str(outcomes["teachers/young/seed-0"].message)
    assert outcomes["dpt/seed-0"].state == "waiting"
    assert "it needs teachers/young/seed-0, which is failed" in str(outcomes["dpt/seed-0"].message)
    assert outcomes["spt/seed-0"].state == "finished"
    assert not (tmp_path / "x/dpt/seed-0").exists(), "no silent change of arm"


def test_an_exploding_loss_stops_the_run_and_keeps_sound_checkpoints(tmp_path: Path) -> None:
    # weight decay multiplies the weights by 1 - 10·10 each step, so they must overflow
    config = micro(
        arms={"wild": {"training": {"lr": 10.0, "grad_clip": None, "weight_decay": 10.0, "tokens": 16 * 4 * 3000}}}
    )
    outcomes = {outcome.run: outcome for outcome in train(config, tmp_path / "x")}
    wild = outcomes["wild/seed-0"]
    assert "no longer finite at step" in str(wild.message)
    run = opened(tmp_path / "x").run("wild/seed-0")
    assert all(p.isfinite().all() for p in run.model().parameters())
    assert run.status["state"] == "failed"


def test_a_nan_in_the_weights_is_never_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechdistill.training._trainer import Trainer

    original = Trainer.train_step

    def poisoned(self: Trainer) -> None:
        original(self)
        if self.step == 9:
            with torch.no_grad():
                next(self.model.parameters()).fill_(torch.nan)

    monkeypatch.setattr(Trainer, "train_step", poisoned)
    outcomes = train(micro(), tmp_path / "x")
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    assert failed
    run = opened(tmp_path / "x").run("spt/seed-0")
    assert run.steps[-1] == 8
    assert all(p.isfinite().all() for p in run.model().parameters())


def test_resuming_elsewhere_is_refused_saying_what_differs(tmp_path: Path) -> None:
    count = iter(range(30))
    train(micro(), tmp_path / "x", stopped=lambda: next(count, None) is None)
    state = next((tmp_path / "x").rglob("state.safetensors"))
    tensors, metadata = load_weights(state)
    record = json.loads(metadata["conditions"])
    assert record["device"] == "cpu"
    metadata["conditions"] = json.dumps({**record, "torch": "1.0", "threads": "8", "teacher": "somebody-else"})
    save_weights(state, tensors, metadata)
    outcomes = train(micro(), tmp_path / "x")
    message = next(str(outcome.message) for outcome in outcomes if outcome.state == "failed")
    assert "torch was '1.0'" in message
    assert "threads was '8' and is '1'" in message
    assert "teacher was 'somebody-else'" in message


def test_a_kill_while_finishing_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the very end a run must neither train on past `until` nor start again from nothing."""
    config = micro(teachers={"young": {"until": {"copy-accuracy": 0.01}, "training": {"tokens": 16 * 4 * 400}}})
    config = experiment(
        {**config.model_dump(mode="json"), "training": {**config.training.model_dump(), "checkpoint_every": 5}}
    )
    train(config, tmp_path / "unbroken")
    for place in ("write_metrics", "set_status", "drop_resume"):
        out = tmp_path / place
        original = getattr(RunWriter, place)

        def die(self: RunWriter, *args: object, original=original, **kwargs: object) -> None:
            if args[:1] in ((), ("finished",)):
                raise KeyboardInterrupt
            original(self, *args, **kwargs)

        monkeypatch.setattr(RunWriter, place, die)
        with pytest.raises(KeyboardInterrupt):
            train(config, out)
        monkeypatch.undo()
        assert states(train(config, out)) == {"finished"}
        assert fingerprints(out) == fingerprints(tmp_path / "unbroken"), place


def test_a_kill_at_the_very_start_does_not_block_the_directory(tmp_path: Path) -> None:
    for path in (tmp_path / ".lock", left_over(tmp_path / "experiment.yaml")):
        path.write_text("")
    assert states(train(micro(arms={}), tmp_path)) == {"finished"}
    assert not list(tmp_path.rglob("*.tmp"))


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    config = micro(training={"tokens": 16 * 4 * 100_000, "checkpoint_every": 50})
    out = tmp_path / "x"
    process = start_in_the_background(config, out, jobs=2)
    wait_for_state(process, out)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(1.0)
    before = {path: path.read_bytes() for path in out.rglob("metrics.jsonl")}
    time.sleep(1.0)
    assert {path: path.read_bytes() for path in out.rglob("metrics.jsonl")} == before, "an orphan trains on"


def test_an_edited_experiment_is_not_taken_for_the_one_that_was_trained(trained: Experiment, tmp_path: Path) -> None:
    out = Path(shutil.copytree(trained.path, tmp_path / "x"))
    file = out / "experiment.yaml"
    file.write_text(file.read_text().replace("lr: 0.003", "lr: 0.03"))
    with pytest.raises(MechdistillError, match="was made with another training"):
        train(micro(training={"lr": 0.03}), out)


def test_a_disk_that_refuses_ends_a_run_as_failed_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def full(fd: int) -> None:
        if "dpt" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    outcomes = {outcome.run: outcome for outcome in train(micro(), tmp_path / "x")}
    assert outcomes["dpt/seed-0"].state == "failed"
    assert "No space left on device" in str(outcomes["dpt/seed-0"].message)
    assert outcomes["spt/seed-0"].state == "finished"
    assert not (tmp_path / "x/.lock.json").exists()


def test_the_bigram_table_trained_to_convergence_is_the_closed_form(tmp_path: Path) -> None:
    """(1-alpha)·p̂_i + alpha·(mean over visits of the teacher's law), the minimiser of the mixed loss (section 7)."""
    alpha, n_sequences = 0.7, 64
    config = micro(
        sandbox={"seq_len": 16, "triggers": {"noise": 0.1}},
        model={"kind": "bigram"},
        teachers={"oracle": {"kind": "oracle"}},
        arms={"dpt": {"alpha": alpha, "teacher": "oracle"}},
    )
    from mechdistill.model import build
    from mechdistill.objective import Weights, mixture
    from mechdistill.sandbox import Sandbox

    sandbox = Sandbox(config.sandbox)
    sequences = sandbox.sequences(0, 0, n_sequences)
    tokens, labels = sequences[:, :-1], sequences[:, 1:]
    law = sandbox.law(tokens)
    model = build(config.model, d_vocab=sandbox.vocab, n_ctx=16, init_seed=0).double()
    ones = torch.ones(tokens.shape, dtype=torch.float64)
    weights = Weights((1 - alpha) * ones, alpha * ones, ones == 0)
    steps = torch.optim.LBFGS(model.parameters(), max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        steps.zero_grad()
        loss = mixture(model(tokens).log_softmax(-1), labels, law, weights).total
        loss.backward()
        return loss

    for _ in range(20):
        steps.step(closure)
    learned = model.table.detach().softmax(-1)
    for row in range(sandbox.vocab):
        visits = tokens == row
        hard = torch.bincount(labels[visits], minlength=sandbox.vocab) / visits.sum()
        expected = (1 - alpha) * hard + alpha * law[visits].exp().mean(0)
        np.testing.assert_allclose(learned[row], expected, atol=2e-3, err_msg=f"row {row}")


def test_a_damaged_resume_state_is_named_and_the_run_trained_afresh(trained: Experiment, tmp_path: Path) -> None:
    count = iter(range(30))
    train(micro(), tmp_path / "x", stopped=lambda: next(count, None) is None)
    state = next((tmp_path / "x").rglob("state.safetensors"))
    state.write_bytes(state.read_bytes()[:100])
    with pytest.warns(UserWarning, match=rf"{state}: corrupt .*; the run is trained afresh"):
        assert states(train(micro(), tmp_path / "x")) == {"finished"}
    assert fingerprints(tmp_path / "x") == fingerprints(trained.path)


def test_a_run_opens_on_its_own(trained: Experiment) -> None:
    run = load(trained.path / "dpt/seed-0")
    assert isinstance(run, Run)
    assert run.config.objective.alpha == 0.9
    assert run.model(0)(torch.zeros(1, 4, dtype=torch.long)).shape == (1, 4, 12)
