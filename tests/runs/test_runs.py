import json
import os
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Measured, Run, exclusive, load
from mechdistill.runs._files import write_bytes, write_json
from mechdistill.runs._weights import digest, load_weights, save_weights
from mechdistill.tables import METRIC_COLUMNS, ROW, Measure, frame, with_run
from tests.helpers import unfinished

KEY = "0123456789abcdef"
BY = Measured("s", {})
MEASURE = Measure("m", METRIC_COLUMNS, question="One?", compute=lambda subject: ONE)
ONE = with_run(
    frame(MEASURE, [{"metric": "one", "value": 1.0}]), run="spt/seed-0", arm="spt", seed=0, step=8, tokens=512
)


@pytest.fixture
def copy(trained: Experiment, tmp_path: Path) -> Path:
    """A copy of the trained experiment that a test may damage."""
    return Path(shutil.copytree(trained.path, tmp_path / "copy"))


def last_checkpoint(path: Path) -> Path:
    return max((path / "spt/seed-0/checkpoints").glob("*.safetensors"))


def test_weights_survive_a_round_trip_to_the_bit(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.tensor(2.0), "d": torch.randn(2).bfloat16()}
    save_weights(tmp_path / "x.safetensors", tensors, {"step": "7"})
    read = load_weights(tmp_path / "x.safetensors")
    assert all(torch.equal(read.tensors[k], tensors[k]) for k in tensors)
    assert read.metadata["step"] == "7"
    assert digest(tensors) == read.metadata["sha256"]
    assert digest({**tensors, "b": torch.arange(5) + 1}) != digest(tensors)


def test_a_flipped_bit_anywhere_is_found(copy: Path) -> None:
    path = last_checkpoint(copy)
    original = path.read_bytes()
    for position in (3, 20, len(original) // 2, len(original) - 1):
        damaged = bytearray(original)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(MechdistillError, match=str(path)):
            Run(copy / "spt/seed-0").model()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04\x95pickle"])
def test_foreign_bytes_are_refused_by_name(copy: Path, content: bytes) -> None:
    last_checkpoint(copy).write_bytes(content)
    with pytest.raises(MechdistillError, match="corrupt"):
        Run(copy / "spt/seed-0").model()


def test_weights_of_another_model_are_refused(copy: Path) -> None:
    metadata = load_weights(last_checkpoint(copy)).metadata
    save_weights(last_checkpoint(copy), {"W_E": torch.zeros(2, 2)}, metadata)
    with pytest.raises(MechdistillError, match="does not fit"):
        Run(copy / "spt/seed-0").model()


def test_another_steps_or_another_runs_checkpoint_is_refused(copy: Path) -> None:
    target = last_checkpoint(copy)
    for source in (target.with_name("step-00000000.safetensors"), copy / "dpt/seed-0/checkpoints" / target.name):
        target.write_bytes(source.read_bytes())
        with pytest.raises(MechdistillError, match="belongs to step"):
            Run(copy / "spt/seed-0").model()


def test_a_run_in_anothers_place_is_refused(copy: Path) -> None:
    shutil.rmtree(copy / "spt/seed-0")
    shutil.copytree(copy / "dpt/seed-0", copy / "spt/seed-0")
    with pytest.raises(MechdistillError, match=r"is not the run that experiment.yaml says"):
        _ = Experiment(copy).runs


def test_a_damaged_line_of_the_log_is_named_but_a_half_last_line_is_left_out(copy: Path) -> None:
    run = Run(copy / "spt/seed-0")
    unfinished(run.path)
    log = run.path / "metrics.jsonl"
    whole = log.read_text()
    rows = len(run.metrics())
    log.write_text(whole + whole.splitlines()[-1][:-10])
    assert len(run.metrics()) == rows
    log.write_text(whole.replace('"metric"', '"metric', 1))
    with pytest.raises(MechdistillError, match=r"metrics.jsonl, line 1: damaged"):
        run.metrics()


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(MechdistillError, match="No space left on device"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_json_has_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_load_says_what_a_directory_is(copy: Path, tmp_path: Path) -> None:
    assert isinstance(load(copy), Experiment)
    assert isinstance(load(copy / "spt/seed-0"), Run)
    with pytest.raises(MechdistillError, match="no such directory"):
        load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MechdistillError, match="neither a run nor an experiment"):
        load(tmp_path / "empty")
    with pytest.raises(MechdistillError, match="holds several experiments; choose one: copy"):
        load(tmp_path)


def test_runs_know_themselves(trained: Experiment) -> None:
    assert [run.name for run in trained.runs] == ["spt/seed-0", "dpt/seed-0", "teachers/young/seed-0"]
    run = trained.run("spt/seed-0")
    assert run.steps == [0, 1, 2, 4, 6, 8, 12, 16, 18, 24]
    assert run.resolve("last") == 24
    assert run.status["state"] == "finished"
    with pytest.raises(MechdistillError, match="nearest is 8"):
        run.model(9)
    with pytest.raises(MechdistillError, match="there are: spt/seed-0"):
        trained.run("nobody")
    record = json.loads((run.path / "provenance.json").read_text())
    assert record["packages"]["torch"] == torch.__version__


def test_metrics_are_one_long_table(trained: Experiment) -> None:
    metrics = trained.run("dpt/seed-0").metrics()
    assert list(metrics.columns[:7]) == ["run", "arm", "seed", "step", "tokens", "metric", "value"]
    assert set(metrics["step"]) == {0, 5, 10, 15, 20, 24}
    assert {"train-forward-kl", "train-cross-entropy", "loss", "kl", "copy-accuracy"} <= set(metrics["metric"])
    assert (metrics["tokens"] == metrics["step"] * 4 * 16).all()


def test_a_table_is_computed_once_and_a_broken_one_again(copy: Path) -> None:
    run, calls = Run(copy / "spt/seed-0"), []

    def compute() -> pd.DataFrame:
        calls.append(1)
        return ONE

    for _ in range(2):
        assert run.cached(MEASURE, 8, KEY, BY, compute)["value"].tolist() == [1.0]
    assert len(calls) == 1
    run.cached(MEASURE, 8, KEY, BY, compute, fresh=True)
    assert len(calls) == 2
    path = run.path / f"tables/m-00000008-{KEY}.parquet"
    original = path.read_bytes()
    for position in range(0, len(original), 37):
        damaged = bytearray(original)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert run.cached(MEASURE, 8, KEY, BY, compute)["value"].tolist() == [1.0]
        assert caught == [] or "computing anew" in str(caught[0].message)
    assert len(calls) > 10, "hardly any damage was noticed"
    with pytest.warns(UserWarning, match="computing anew"):
        run.cached(replace(MEASURE, columns=(*MEASURE.columns, ROW)), 8, KEY, BY, compute)


def test_a_directory_that_cannot_be_written_is_measured_all_the_same(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.warns(UserWarning, match="not cached"):
        table = Run(copy / "spt/seed-0").cached(MEASURE, 8, KEY, BY, lambda: ONE)
    assert table["value"].tolist() == [1.0]


def test_what_another_source_measured_is_replaced_and_the_rest_stays(copy: Path) -> None:
    run = Run(copy / "spt/seed-0")
    for step, key, source in ((8, "a" * 16, "old"), (8, "b" * 16, "new"), (6, "c" * 16, "old"), (8, KEY, "new")):
        run.cached(MEASURE, step, key, Measured(source, {}), lambda: ONE)
    (run.path / f"tables/m-{KEY}.parquet").write_bytes(b"as earlier versions named them")
    run.cached(MEASURE, 8, "d" * 16, Measured("new", {}), lambda: ONE)
    keys = {path.name.split("-")[-1][0] for path in run.path.glob("tables/m-*")}
    assert keys == {"b", "c", KEY[0], "d"}
    assert not (run.path / f"tables/m-{KEY}.parquet").exists()


@pytest.mark.parametrize("file", ["config.yaml", "status.json"])
def test_a_damaged_record_is_named(copy: Path, file: str) -> None:
    path = copy / "spt/seed-0" / file
    path.write_text("{")
    with pytest.raises(MechdistillError, match=file):
        _ = Run(copy / "spt/seed-0").status


def test_a_tampered_config_is_refused(copy: Path) -> None:
    path = copy / "spt/seed-0/config.yaml"
    path.write_text(path.read_text().replace("vocab: 12", "vocab: -12"))
    with pytest.raises(MechdistillError, match="vocab=-12"):
        load(copy / "spt/seed-0")


def test_two_writers_are_kept_apart(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path),
        pytest.raises(MechdistillError, match=f"in use by process {os.getpid()}"),
        exclusive(tmp_path),
    ):
        pass
    with exclusive(tmp_path):  # it is free again
        pass


def test_a_fresh_heartbeat_from_another_machine_counts_and_a_stale_one_does_not(tmp_path: Path) -> None:
    import time

    owner = {"host": "elsewhere", "pid": 1, "heartbeat": time.time() - 3}
    (tmp_path / ".lock.json").write_text(json.dumps(owner))
    with pytest.raises(MechdistillError, match="process 1 on elsewhere"), exclusive(tmp_path):
        pass
    (tmp_path / ".lock.json").write_text(json.dumps({**owner, "heartbeat": time.time() - 3600}))
    with exclusive(tmp_path):
        pass
