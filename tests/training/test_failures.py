"""Runs that cannot be trained: found before training where they can be, else stopped, with the reason in one line."""

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import mechdistill as md
from mechdistill.config import ExperimentConfig, to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.registry import Registry
from mechdistill.runs import Experiment, Run
from mechdistill.runs._weights import load_weights, save_weights
from mechdistill.sandbox import Sandbox
from mechdistill.training import Outcome, plan, train
from mechdistill.training._hooks import checkpoints_near
from mechdistill.training._trainer import Trainer
from tests.cli.test_runs_commands import mechdistill  # noqa: F401  (a fixture)
from tests.helpers import copied, micro, only


@pytest.fixture
def own() -> Iterator[None]:
    """What a test defines is gone after it."""
    states = [(registry, registry.state()) for registry in Registry.every]
    yield
    for registry, state in states:
        registry.restore(state)


def one(arm: dict[str, Any], teachers: dict[str, Any] | None = None, **training: Any) -> ExperimentConfig:
    return micro(arms=only({"x": arm}), teachers=only(teachers or {}), training=training)


def ended(config: ExperimentConfig, out: Path, run: str = "x/seed-0") -> Outcome:
    return next(outcome for outcome in train(config, out) if outcome.run == run)


PROGRESSIVE = {
    "young": {"kind": "checkpoint", "training": {"tokens": 16 * 4 * 25, "checkpoint_every": 50}},
    "p": {"kind": "progressive", "of": "young", "stages": [[0.0, 0.45], [0.5, 1.0]]},
}


def earlier(run: Path, **step: Any) -> dict[str, Any]:
    return {"t": {"kind": "checkpoint", "run": str(run), **step}}


def test_what_can_be_seen_before_training_is(trained: Experiment, tmp_path: Path) -> None:
    spt = trained.path / "spt/seed-0"
    nan = Run(copied(trained.path, tmp_path / "nan") / "spt/seed-0")
    file = nan.path / "checkpoints/step-00000024.safetensors"
    weights = load_weights(file)
    save_weights(file, {**weights.tensors, "W_E": torch.full_like(weights.tensors["W_E"], torch.nan)}, weights.metadata)
    wrong = {
        "no checkpoint near step 11.25 of 25": micro(teachers=PROGRESSIVE, arms={"dpt": {"teacher": "p"}}),
        "nope: no such directory": one({"alpha": 0.9, "teacher": "t"}, earlier(tmp_path / "nope")),
        "teachers.t.step=9: .* has no checkpoint there; the nearest is 8": one(
            {"alpha": 0.9, "teacher": "t"}, earlier(spt, step=9)
        ),
        "knows 12 tokens, the student 16": micro(
            sandbox={"vocab": 16}, arms=only({"x": {"alpha": 0.9, "teacher": "t"}}), teachers=only(earlier(spt))
        ),
        "has nan or inf in W_E": one({"alpha": 0.9, "teacher": "t"}, earlier(nan.path)),
    }
    for message, config in wrong.items():
        with pytest.raises(MechdistillError, match=message):
            plan(config, tmp_path / "x")
        with pytest.raises(MechdistillError, match=message):
            train(config, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("every", [1, 3, 7, 100])
@pytest.mark.parametrize("steps", [1, 24, 257])
def test_checkpoints_are_foreseen(every: int, steps: int) -> None:
    """Against the list of all of them: step 0, powers of two, every n-th, the last."""
    from mechdistill.config import expand

    config = expand(one({}, tokens=16 * 4 * steps, checkpoint_every=every))[-1]
    known = [s for s in range(steps + 1) if s % every == 0 or s & (s - 1) == 0 or s == steps]
    for step in (0.0, 0.4, *(steps * part / 37 for part in range(1, 38))):
        near = checkpoints_near(config, step)
        assert set(near) <= set(known)
        assert min(abs(s - step) for s in near) == min(abs(s - step) for s in known)


@pytest.mark.parametrize("file", ["checkpoints/step-00000024.safetensors", "metrics.parquet"])
def test_nobody_is_told_that_a_run_with_anothers_files_is_finished(
    trained: Experiment, tmp_path: Path, file: str
) -> None:
    out = copied(trained.path, tmp_path / "x")
    shutil.copy(out / "spt/seed-0" / file, out / "dpt/seed-0" / file)
    with pytest.raises(MechdistillError, match=file):
        train(micro(), out)


def test_a_teacher_whose_checkpoints_are_gone_is_named_with_what_helps(trained: Experiment, tmp_path: Path) -> None:
    out = copied(trained.path, tmp_path / "x")
    shutil.rmtree(out / "dpt")
    shutil.rmtree(out / "teachers/young/seed-0/checkpoints")
    with pytest.raises(MechdistillError, match=r"missing, though .* says that it was written; restore it, or delete"):
        train(micro(), out)
    shutil.rmtree(out / "teachers/young/seed-0")
    assert {outcome.state for outcome in train(micro(), out)} == {"finished"}
    ours, theirs = Experiment(out).run("dpt/seed-0"), trained.run("dpt/seed-0")
    assert ours.weights_digest() == theirs.weights_digest()


def test_the_reason_is_the_last_word_of_train(mechdistill: Any, tmp_path: Path) -> None:  # noqa: F811
    """A teacher that stops early has fewer checkpoints than anybody could foresee."""
    teachers = {**PROGRESSIVE, "young": {**PROGRESSIVE["young"], "until": {"copy-accuracy": 0.001}}}
    teachers["young"]["training"] |= {"tokens": 16 * 4 * 200}
    teachers["p"] = {**teachers["p"], "stages": [[0.0, 0.7], [0.5, 1.0]]}  # it stops at step 5, after 4, 2, 1 and 0
    config = micro(teachers=only(teachers), arms=only({"x": {"alpha": 0.9, "teacher": "p"}, "spt": {}}))
    (tmp_path / "mine.yaml").write_text(to_yaml(config))
    result = mechdistill("train", tmp_path / "mine.yaml", "--out", tmp_path / "x", "--jobs", 1)
    assert result.code == 1
    assert "spt/seed-0" in result.out
    *_, last = result.err.strip().splitlines()
    assert last.startswith("x/seed-0: failed: teachers.young: has no checkpoint near step")
    assert "config.yaml" not in result.err
    shown = mechdistill("runs", "show", tmp_path / "x/x/seed-0")
    assert shown.code == 0, shown.err
    assert "no checkpoint near" in " ".join(shown.out.split())


def test_an_exploding_loss_is_stopped(tmp_path: Path) -> None:
    """Weights that grow a thousandfold a step and stay finite: far beyond uniform guessing, ln 12 = 2.48."""
    config = one({}, lr=10.0, tokens=16 * 4 * 200, weight_decay=0.0, evaluate_every=2)
    outcome = ended(config, tmp_path / "x")
    assert outcome.state == "failed"
    assert "loss exploded" in str(outcome.message) or "no longer finite" in str(outcome.message)
    last = Run(tmp_path / "x/x/seed-0").metrics().query("metric == 'loss'")["value"].iloc[-1]
    assert last > 20 * 2.48


def test_the_rule_of_explosion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 20·ln 12 = 49.7 nats three times in a row, or at the end; once or twice is a spike. Also when resumed."""

    def outcome(losses: dict[int, float], name: str, stop: int | None = None) -> str:
        def spoilt(trainer: Trainer) -> list[dict[str, Any]]:
            return [{"metric": "loss", "value": losses.get(trainer.step, 2.4)}]

        monkeypatch.setattr(Trainer, "held_out", spoilt)
        config = one({}, tokens=16 * 4 * 30)
        if stop is not None:
            count = iter(range(stop))
            assert train(config, tmp_path / name, stopped=lambda: next(count, None) is None)[0].state == "interrupted"
        return str(ended(config, tmp_path / name).message)

    assert outcome({10: 49.0, 15: 49.0, 20: 49.0, 25: 49.0, 30: 49.0}, "below") == "None"
    assert outcome({5: 50.0, 10: 1e9, 20: 50.0, 25: 50.0}, "spikes") == "None"
    assert "at step 30" in outcome({30: 50.0}, "last")
    for name, stop in (("row", None), ("resumed", 12)):
        message = outcome({10: 50.0, 15: 60.0, 20: 1069.0}, name, stop)
        assert "loss exploded, 1069 nats on held-out sequences at step 20" in message
        assert "checkpoints up to step 5 are sound" in message


def test_a_teacher_that_gives_no_law_is_named(tmp_path: Path, own: None) -> None:
    from mechdistill.extend import teacher

    seen = []

    @teacher()
    def spoilt(tokens: torch.Tensor, labels: Any, *, what: str) -> torch.Tensor:
        """Uniform, but at step 12's first sequence, where it is what it is told to be."""
        law = torch.full((*tokens.shape, 12), 1 / 12).log()
        wrong = torch.equal(tokens[0], poison)
        seen.append(wrong)
        if wrong:
            law[0, 3, :5] = float(what)
        return law

    poison = Sandbox(micro().sandbox).sequences(0, 12 * 4, 1)[0, :-1]
    for what, gave in (("nan", "gave nan"), ("inf", "gave probabilities that sum to inf")):
        made = {"t": {"kind": "spoilt", "what": what}, "d": {"kind": "sampled", "of": "t", "n": 2}}
        for name in ("t", "d"):
            outcome = ended(one({"alpha": 0.9, "teacher": name}, made), tmp_path / f"{what}-{name}")
            assert any(seen)
            assert outcome.state == "failed"
            assert "x/seed-0: teacher 't' (spoilt-" in str(outcome.message)
            assert f"{gave} at step 12" in str(outcome.message)


def test_a_checkpoint_of_nan_is_refused_by_every_measure(trained: Experiment, tmp_path: Path) -> None:
    run = Run(copied(trained.path, tmp_path / "x") / "spt/seed-0")
    file = run.path / "checkpoints/step-00000024.safetensors"
    weights = load_weights(file)
    for value in (torch.nan, torch.inf):
        save_weights(file, {**weights.tensors, "W_E": weights.tensors["W_E"] * value}, weights.metadata)
        for measure in (md.induction_scores, md.row_curves, md.ablate, lambda run: md.prompt(run, [1, 2])):
            with pytest.raises(MechdistillError, match=r"step-00000024.safetensors: has nan or inf in W_E"):
                measure(run)


def test_a_script_without_a_main_guard_trains_with_several_jobs(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text(
        textwrap.dedent("""
        import mechdistill as md
        keys = ["training.tokens=2048", "model.n_layers=1", "training.eval_sequences=8"]
        exp = md.load_experiment(preset_name="tiny", settings=keys)
        arms = {name: exp.arms[name] for name in list(exp.arms) if not exp.arms[name].distils}
        exp = exp.model_copy(update={"arms": arms})
        print([outcome.state for outcome in md.train(exp, "r", jobs=2)])
        """)
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["['finished']"], done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    for path in ("x" * 256, "a\0b"):
        with pytest.raises(MechdistillError, match=r"cannot be made|must be a path"):
            train(micro(), tmp_path / path)
        with pytest.raises(MechdistillError, match=r"is no path that can be opened|must be a path"):
            md.load(tmp_path / path)


def test_paths_do_not_follow_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Experiment
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a/text.txt").write_text("the quick brown fox jumps over the lazy dog " * 20)
    monkeypatch.chdir(tmp_path / "a")
    config = micro(sandbox={"rows": only(kind="corpus", path="text.txt")}, arms=only({"x": {}}))
    train(config, "r")
    experiment = md.load("r")
    monkeypatch.chdir(tmp_path / "b")
    assert isinstance(experiment, Experiment)
    (run,) = experiment.runs
    assert run.sandbox.vocab == 12
    opened = md.load("../a/r")
    assert isinstance(opened, Experiment)
    assert len(md.induction_scores(opened)) == len(md.induction_scores(run))
    shutil.copy(tmp_path / "a/text.txt", tmp_path / "b/text.txt")  # the same text elsewhere is the same world
    assert {outcome.state for outcome in train(config, tmp_path / "a/r")} == {"finished"}
