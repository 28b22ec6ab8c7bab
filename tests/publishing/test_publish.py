import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run, list_runs, load
from mechdistill.runs._tables import write_table
from mechdistill.runs._weights import load_weights, save_weights
from mechdistill.training import train
from tests.helpers import copied, micro, only, rewritten


@pytest.fixture
def copy(trained: Experiment, tmp_path: Path) -> Path:
    """A copy of the trained experiment that a test may change."""
    return copied(trained.path, tmp_path / "copy")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def equal(a: Run, b: Run, step: Any = "last") -> bool:
    ours, theirs = a.model(step).state_dict(), b.model(step).state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def front_matter(folder: Path) -> dict[str, Any]:
    _, text, _ = (folder / "README.md").read_text().split("---\n", 2)
    return YAML(typ="safe", pure=True).load(text)


def test_a_published_run_loads_with_the_same_weights_and_metrics(trained: Experiment, tmp_path: Path) -> None:
    run = trained.run("dpt/seed-0")
    assert md.publish(run, tmp_path / "a/b") == tmp_path / "a/b"
    published = load(tmp_path / "a/b")
    assert isinstance(published, Run)
    assert published.config == run.config
    assert published.steps == run.steps
    assert all(equal(published, run, step) for step in run.steps)
    assert published.weights_digest() == run.weights_digest()
    pd.testing.assert_frame_equal(published.metrics(), run.metrics())
    assert published.status == run.status
    assert list_runs(tmp_path / "a")["state"].tolist() == ["finished"]
    assert list(tmp_path.iterdir()) == [tmp_path / "a"], "no temporary folder is left"


def test_a_published_experiment_loads_with_all_its_runs_and_tables(copy: Path, tmp_path: Path) -> None:
    source = Experiment(copy)
    md.induction_scores(source, "last")
    (tmp_path / "empty").mkdir()
    md.publish(source, str(tmp_path / "empty"), checkpoints="last")
    published = load(tmp_path / "empty")
    assert isinstance(published, Experiment)
    assert [run.name for run in published.runs] == [run.name for run in source.runs]
    for ours, theirs in zip(published.runs, source.runs, strict=True):
        assert ours.steps == [theirs.resolve("last")]
        assert equal(ours, theirs)
        tables = sorted(path.name for path in (theirs.path / "tables").iterdir())
        assert sorted(path.name for path in (ours.path / "tables").iterdir()) == tables
    expected = md.induction_scores(source, "last").drop(columns="untrained")
    pd.testing.assert_frame_equal(md.induction_scores(published, "last").drop(columns="untrained"), expected)


def test_nothing_goes_along_that_is_not_understood(copy: Path, tmp_path: Path) -> None:
    run = copy / "spt/seed-0"
    for name in ("error.log", "resume/state.safetensors", "notes.txt", "tables/notes-1.parquet", ".secret"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("private")
    with pytest.warns(UserWarning, match=r"left out: .*notes-1.parquet"):
        md.publish(Run(run), tmp_path / "out")
    expected = {"README.md", "config.yaml", "provenance.json", "status.json", "metrics.parquet"}
    expected |= {f"checkpoints/step-{step:08d}.safetensors" for step in Run(run).steps}
    assert set(files(tmp_path / "out")) == expected


def test_the_machine_and_its_user_stay_at_home(tmp_path: Path) -> None:
    home = tmp_path / "home/alice"
    home.mkdir(parents=True)
    (home / "novel.txt").write_text("the quick brown fox jumps over the lazy dog " * 20)
    rows = only(kind="corpus", path=str(home / "novel.txt"))
    train(micro(sandbox={"rows": rows}), home / "runs")
    source = Experiment(home / "runs")
    for run in source.runs:
        private = {"host": "alices-laptop", "user": "alice", "cwd": str(home), "library": str(home / "lib.so")}
        packages = run.provenance["packages"] | {"library": private["library"]}
        rewritten(run.path, "provenance.json", revision="0123abc", packages=packages, **private)
        weights = load_weights(run.path / "checkpoints/step-00000000.safetensors")
        metadata = {**weights.metadata, "author": "alice"}
        save_weights(run.path / "checkpoints/step-00000000.safetensors", weights.tensors, metadata)
    md.publish(source, tmp_path / "out")
    md.publish(source.run("spt/seed-0"), tmp_path / "run")
    published = {**files(tmp_path / "out"), **{f"run/{name}": data for name, data in files(tmp_path / "run").items()}}
    assert len(published) > 20
    for name, data in published.items():
        for secret in (
            "alice",
            str(tmp_path),
            str(Path.home()) + os.sep,
            f'"{platform.node()}"',
            f'"pid": {os.getpid()}',
        ):
            assert secret.encode() not in data, (name, secret)
    record = json.loads(published["spt/seed-0/provenance.json"])
    assert record["packages"]["torch"] == torch.__version__
    assert record["revision"] == "0123abc"
    assert record["packages"]["library"] == "lib.so"
    assert "put `novel.txt` (SHA-256" in published["README.md"].decode()


def test_a_published_corpus_world_loads_beside_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "novel.txt").write_text("the quick brown fox jumps over the lazy dog " * 20)
    rows = only(kind="corpus", path=str(tmp_path / "novel.txt"))
    train(micro(sandbox={"rows": rows}, teachers=only(), arms=only(spt={})), tmp_path / "runs")
    source = Experiment(tmp_path / "runs")
    md.publish(source, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    published = load("out")
    assert isinstance(published, Experiment)
    assert all(equal(ours, theirs) for ours, theirs in zip(published.runs, source.runs, strict=True))


def test_the_card_says_what_the_data_say(trained: Experiment, tmp_path: Path) -> None:
    md.publish(trained, tmp_path / "all", license="mit")
    md.publish(trained.run("dpt/seed-0"), tmp_path / "one")
    assert front_matter(tmp_path / "all")["license"] == "mit"
    card = front_matter(tmp_path / "one")
    assert "license" not in card
    assert card["library_name"] == "mechdistill"
    assert "knowledge-distillation" in card["tags"]
    md.publish(trained.run("spt/seed-0"), tmp_path / "spt")
    assert "knowledge-distillation" not in front_matter(tmp_path / "spt")["tags"]
    text = (tmp_path / "one/README.md").read_text()
    assert "over 12 tokens, 16 predictions a sequence" in text
    assert "`L = (1 - 0.9)·CE(labels) + 0.9·KL(teacher ‖ student)`" in text
    assert "`L = CE(labels)`" in (tmp_path / "spt/README.md").read_text()
    metrics = trained.run("dpt/seed-0").metrics()
    last = metrics[metrics["step"] == 24]
    for row in last.dropna(subset="occurrence").to_dict("records"):
        bucket = "" if row["bucket"] is None or pd.isna(row["bucket"]) else row["bucket"]
        assert f"| {row['metric']} | {row['occurrence']} | {bucket} | {row['value']:.4g} |" in text
    accuracy = last[(last["metric"] == "copy-accuracy") & (last["occurrence"] == "2+")]["value"].item()
    assert f"| dpt/seed-0 | 1536 | {accuracy:.4g} |" in (tmp_path / "all/README.md").read_text()


@pytest.mark.parametrize(("folder", "name"), [("all", "experiment"), ("one", "run")])
def test_the_cards_own_code_runs(trained: Experiment, tmp_path: Path, folder: str, name: str) -> None:
    md.publish(trained if folder == "all" else trained.run("spt/seed-0"), tmp_path / folder)
    code = (tmp_path / folder / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("this-folder", str(tmp_path / folder)), names)
    expected = trained.run("spt/seed-0").model().state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in names["model"].state_dict().items())
    assert name in names


def test_what_the_metrics_know_of_the_teacher_is_told(copy: Path, tmp_path: Path) -> None:
    run = copy / "dpt/seed-0"
    rows = [{"step": 30, "metric": "teacher-copy-accuracy", "value": 0.4321, "occurrence": "2+"}]
    rows.append({"step": 31, "metric": "loss", "value": 1.0})
    more = Run(run).metrics().iloc[:2].assign(**{key: pd.Series([row.get(key) for row in rows]) for key in rows[0]})
    table = pd.concat([Run(run).metrics(), more.astype(Run(run).metrics().dtypes)], ignore_index=True)
    write_table(run / "metrics.parquet", table, Run(run).owner)
    md.publish(Run(run), tmp_path / "out")
    assert "| dpt/seed-0 | teacher-copy-accuracy | 2+ |  | 0.4321 |" in (tmp_path / "out/README.md").read_text()


def test_a_copy_inside_its_source_would_count_every_run_twice(copy: Path) -> None:
    with pytest.raises(MechdistillError, match=r"lies inside .* whose runs would be there twice"):
        md.publish(Experiment(copy), copy / "pub")
    assert not (copy / "pub").exists()


@pytest.mark.parametrize("state", ["running", "interrupted", "failed"])
def test_an_unfinished_run_is_refused_by_name(copy: Path, tmp_path: Path, state: str) -> None:
    rewritten(copy / "dpt/seed-0", "status.json", state=state)
    told = "interrupted" if state == "running" else state  # nobody holds the lock any more
    for source in (Experiment(copy), Run(copy / "dpt/seed-0")):
        with pytest.raises(MechdistillError, match=f"is not finished .dpt/seed-0 is {told}"):
            md.publish(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    shutil.rmtree(copy / "dpt")
    with pytest.raises(MechdistillError, match="dpt/seed-0 is waiting"):
        md.publish(Experiment(copy), tmp_path / "out")


def test_an_occupied_place_is_refused_and_left_alone(trained: Experiment, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    for place in ("full", "full/thesis.tex", "link"):
        with pytest.raises(MechdistillError, match="choose another"):
            md.publish(trained, tmp_path / place)
    assert files(tmp_path / "full") == {"thesis.tex": b"precious"}


@pytest.mark.parametrize("file", ["checkpoints/step-00000008.safetensors", "metrics.parquet", "provenance.json"])
def test_a_damaged_file_is_named_and_nothing_is_published(copy: Path, tmp_path: Path, file: str) -> None:
    path = copy / "dpt/seed-0" / file
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(MechdistillError, match=str(path)):
        md.publish(Experiment(copy), tmp_path / "out/there")
    assert not list(tmp_path.glob("out/*"))


def test_a_full_disk_is_one_line_and_leaves_nothing(
    trained: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail_late(fd: int) -> None:
        calls.append(fd)
        if len(calls) > 9:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail_late)
    with pytest.raises(MechdistillError, match="No space left on device"):
        md.publish(trained, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"checkpoints": "some"}, {"license": "mit\nevil: yes"}, {"license": ""}])
def test_wrong_options_are_refused(trained: Experiment, tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(MechdistillError, match="must be"):
        md.publish(trained, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()
