"""Run directories that somebody else made: nothing hangs, leads out of the folder, or reaches a terminal."""

import json
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError, visible
from mechdistill.runs import Experiment, Run, exclusive, list_runs, load, remove_leftovers, sql
from mechdistill.runs import _lock as lock
from mechdistill.runs._binding import Owner
from mechdistill.runs._files import temporary, write_bytes
from mechdistill.runs._metrics import append, start
from mechdistill.training import train
from tests.cli.test_runs_commands import mechdistill  # noqa: F401  (a fixture)
from tests.helpers import copied, left_over, micro, rewritten, unfinished

GOOD = {"state": "finished", "step": 24, "steps": 24, "tokens": 1536, "seconds": 1.5}


def read_status(run: Path) -> Any:
    return Run(run).status


DEEP = "[" * 50_000 + "]" * 50_000


@pytest.fixture
def copy(trained: Experiment, tmp_path: Path) -> Path:
    return copied(trained.path, tmp_path / "runs/copy").parent


def said(work: Callable[[], Any]) -> tuple[Any, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = work()
    return result, [str(warning.message) for warning in caught]


BAD_STATUS = [
    json.dumps({**GOOD, "step": True}),
    json.dumps({**GOOD, "seconds": float("inf")}),
    json.dumps({**GOOD, "seconds": -1}),
    json.dumps({**GOOD, "state": "\u001b[31mfinished"}),
    json.dumps({**GOOD, "state": None}),
    json.dumps(GOOD).replace("24", "9" * 5000),
    json.dumps({**GOOD, "tokens": 2**63}),
    json.dumps({**GOOD, "step": 24.0}),
    json.dumps({**GOOD, "message": "x"}).replace('"x"', r'"\ud800"'),
    json.dumps({**GOOD, "message": "x"}).replace('"x"', DEEP),
    json.dumps({**GOOD, "message": "x" * 2**20}),
    json.dumps([GOOD]),
    DEEP,
    "",
]


def test_a_status_is_checked_like_a_config_and_breaks_no_other_run(copy: Path) -> None:
    path = copy / "copy/spt/seed-0/status.json"
    kept = path.read_text()
    for text in BAD_STATUS:
        path.write_text(text)
        with pytest.raises(MechdistillError, match=r"status.json"):
            read_status(path.parent)
        found, lines = said(lambda: list_runs(copy))
        assert set(found["run"]) == {"dpt/seed-0", "teachers/young/seed-0"}
        assert len(lines) == 1
        assert str(path) in lines[0]
    path.write_text(kept)
    rewritten(path.parent, path.name, arm="dpt", seed=7, run="x", path="/", colour=[1])
    found, lines = said(lambda: list_runs(copy))
    row = found[found["run"] == "spt/seed-0"].iloc[0]
    assert (row["arm"], row["seed"], row["path"], lines) == ("spt", 0, str(path.parent), [])


def test_a_lock_record_of_any_content_is_no_traceback_and_no_lock(tmp_path: Path) -> None:
    record = tmp_path / ".lock.json"
    for text in (DEEP, "9" * 5000, '{"host": "x", "pid": true, "heartbeat": 1e999}', "[]", '{"host": "\\ud800"}'):
        record.write_text(text)
        with exclusive(tmp_path):
            pass
    os.mkfifo(record)
    with exclusive(tmp_path):
        pass


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_a_heartbeat_of_another_clock_locks_only_while_it_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """From the future it locks not for ever; from the past it does not let two write at once."""
    monkeypatch.setattr(lock, "_BEAT", 0.1)
    record = tmp_path / ".lock.json"

    def beat() -> None:
        record.write_text(json.dumps({"host": "elsewhere", "pid": 1, "heartbeat": time.time() + skew}))

    beat()
    with exclusive(tmp_path):
        pass
    beat()
    later = threading.Timer(0.05, beat)
    later.start()
    with pytest.raises(MechdistillError, match="in use by process 1 on elsewhere"), exclusive(tmp_path):
        pass
    later.join()


READERS: dict[str, Callable[[Path], Any]] = {
    "config.yaml": load,
    "status.json": read_status,
    "provenance.json": lambda run: Run(run).provenance,
    "metrics.parquet": lambda run: Run(run).metrics(),
    "targets.parquet": lambda run: Run(run).targets(),
    "checkpoints/step-00000024.safetensors": lambda run: Run(run).weights(),
}


@pytest.mark.parametrize("special", ["fifo", "device", "directory", "link"])
def test_what_is_no_file_is_named_and_never_waited_for(copy: Path, special: str) -> None:
    run = copy / "copy/dpt/seed-0"
    (run / "metrics.jsonl").unlink()
    for name, read in READERS.items():
        kept = (run / name).read_bytes()
        (run / name).unlink()
        (copy.parent / "elsewhere").write_bytes(kept)
        make = {
            "fifo": os.mkfifo,
            "device": lambda path: path.symlink_to("/dev/zero"),
            "directory": Path.mkdir,
            "link": lambda path: path.symlink_to(copy.parent / "elsewhere"),
        }
        make[special](run / name)
        with pytest.raises(MechdistillError, match=f"{name}: is (no regular file|a link)"):
            read(run)
        if name in ("config.yaml", "status.json"):
            found, lines = said(lambda: list_runs(copy))
            assert len(found) == 2
            assert len(lines) == 1
            assert name in lines[0]
        (run / name).rmdir() if special == "directory" else (run / name).unlink()
        (run / name).write_bytes(kept)
    unfinished(run)
    (run / "tables").mkdir()
    for name in ("metrics.jsonl", "tables/induction-scores-00000024-0123456789abcdef.parquet"):
        make[special](run / name)
    _, lines = said(lambda: sql("SELECT (SELECT count(*) FROM metrics), (SELECT count(*) FROM induction_scores)", copy))
    assert len(lines) == 2, lines


@pytest.mark.parametrize("inner", ["dpt", "dpt/seed-0", "dpt/seed-0/tables", "dpt/seed-0/checkpoints", "figures"])
def test_a_link_does_not_lead_us_out_of_the_folder(copy: Path, tmp_path: Path, inner: str, mechdistill: Any) -> None:  # noqa: F811
    out, elsewhere = copy / "copy", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious.tmp").write_text("mine")
    if (out / inner).exists():
        shutil.rmtree(out / inner)
    (out / inner).symlink_to(elsewhere)
    for work in (
        lambda: train(micro(), out),
        lambda: mechdistill("induction-scores", out),
        lambda: mechdistill("induction-scores", out / "dpt/seed-0"),
    ):
        with suppress(MechdistillError):  # or it works without going through the link
            assert getattr(work(), "code", 0) in (0, 2)
    assert [path.name for path in elsewhere.iterdir()] == ["precious.tmp"]
    (tmp_path / "name").symlink_to(out)  # the folder itself may be one: it is the user's choice
    (out / inner).unlink()
    assert isinstance(load(tmp_path / "name"), Experiment)


def test_a_linked_log_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    run = tmp_path / "x/spt/seed-0"
    run.mkdir(parents=True)
    owner = Owner(run, "", strict=True)
    for make in (lambda path: path.symlink_to(precious), os.mkfifo):
        make(run / "metrics.jsonl")
        with pytest.raises(MechdistillError, match=r"metrics.jsonl: cannot be written"):
            append(run, start(owner), 0, 0, [{"metric": "loss", "value": 1.0}])
        (run / "metrics.jsonl").unlink()
    assert precious.read_text() == "mine\n"


def test_names_and_words_of_run_files_do_not_reach_the_terminal(copy: Path, mechdistill: Any) -> None:  # noqa: F811
    odd = copy / "\x1b[31mred\n\u202e"
    (copy / "copy").rename(odd)
    shutil.copytree(odd, copy / os.fsdecode(b"bytes-\xff\xfe"))
    run = odd / "spt/seed-0"
    rewritten(run, "status.json", state="failed", message="\x1b]0;owned\x07 why")
    rewritten(run, "provenance.json", **{"host": "\x1b[2Jhost", "x\x9b": 1})
    (odd / "dpt/seed-0/status.json").write_text("{")
    for command in (["list", copy], ["sql", "FROM runs", copy], ["sql", "FROM metrics LIMIT 3", copy], ["show", run]):
        result = mechdistill("runs", *command)
        assert result.code == 0, result.err
        text = result.out.replace("\n", "")
        assert all(c.isprintable() for c in text), sorted({c for c in text if not c.isprintable()})
    rows = mechdistill("runs", "list", copy, "--json").rows
    assert len(rows) == 5
    assert {row["experiment"] for row in rows} == {r"\x1b[31mred\n\u202e", r"bytes-\udcff\udcfe"}


@pytest.mark.parametrize("text", ["plain ü 漢", "\x1b[31m", "a\nb\tc", "\u202eevil", "\udcff", "\x9b1m"])
def test_what_is_visible_is_printable_and_encodable(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert shown.encode()
    assert (shown == text) == text.isprintable()


def test_a_table_is_bounded_before_it_is_read(copy: Path) -> None:
    """A hundred million equal rows take a few kilobytes, and took minutes."""
    path = copy / "copy/spt/seed-0/metrics.parquet"
    one = pa.table({"x": pa.array(np.zeros(1_000_000, dtype=np.int8))})
    with pq.ParquetWriter(path, one.schema) as writer:
        for _ in range(6):
            writer.write_table(one)
    started = time.process_time()
    with pytest.raises(MechdistillError, match=r"metrics.parquet: has 6,000,000 rows"):
        Run(path.parent).metrics()
    _, lines = said(lambda: sql("FROM metrics", copy))
    assert "6,000,000 rows" in lines[0]
    assert time.process_time() - started < 3


def test_provenance_is_no_markup_in_the_card(copy: Path, tmp_path: Path) -> None:
    run = copy / "copy/spt/seed-0"
    evil = "<script>alert(1)</script> [x](http://evil.example) `**b** \x1b[31m \ud800"
    packages = {**json.loads((run / "provenance.json").read_text())["packages"], "a|b": evil}
    rewritten(run, "provenance.json", created=evil, revision="0123abc", python=evil, packages=packages)
    md.publish(Run(run), tmp_path / "out")
    lines = (tmp_path / "out/README.md").read_text().splitlines()
    told = [line for line in lines if "script" in line]
    assert len(told) == 3
    for line in told:
        before, code, after = line.partition("`")[0], line.partition("`")[2].rpartition("`")[0], line.rpartition("`")[2]
        assert "script" not in before + after
        assert "`" not in code or "a|b" in line
        assert "\x1b" not in line
    assert "- revision: 0123abc" in lines
    sound = json.loads((run / "provenance.json").read_text())
    for wrong in (
        {"packages": [1]},
        {"plugins": [{}, 1]},
        {"conditions": {"a": {}}},
        {"created": json.loads("[" * 9 + "]" * 9)},
    ):
        (run / "provenance.json").write_text(json.dumps({**sound, **wrong}))
        with pytest.raises(MechdistillError, match=r"provenance.json: damaged"):
            md.publish(Run(run), tmp_path / "other")


def test_only_what_a_dead_writer_of_ours_left_is_removed(copy: Path, tmp_path: Path) -> None:
    out = copy / "copy"
    run = Run(out / "spt/seed-0")
    (run.path / "tables").mkdir()
    users = [out / ".notes.tmp", run.path / "tables/.x.12345678.tmp", out / ".a.mechdistill-notes.tmp"]
    alive = temporary(run.path / "tables/x.parquet")
    foreign = left_over(run.path / "tables/x.parquet")
    foreign = foreign.with_name(
        foreign.name.replace("mechdistill-", "mechdistill-ffffffff-", 1).replace(
            foreign.name.split("mechdistill-")[1][:9], "", 1
        )
    )
    dead = [left_over(run.path / "tables/x.parquet"), left_over(run.path / "config.yaml"), left_over(out / "x")]
    for path in (*users, alive, foreign, *dead):
        path.write_text("x")
    md.induction_scores(run)
    assert not dead[0].exists(), "the next measure cleans what a killed one left"
    assert dead[1].exists()
    train(micro(), out)
    assert not any(path.exists() for path in dead)
    assert all(path.exists() for path in (*users, alive, foreign))
    left_over(tmp_path / "file").write_text("x")
    write_bytes(tmp_path / "file", b"new")
    remove_leftovers(tmp_path)
    assert not list(tmp_path.glob(".file*"))


def test_what_a_killed_publish_left_goes_with_the_next(trained: Experiment, tmp_path: Path) -> None:
    dead = left_over(tmp_path / "out")
    (dead / "spt").mkdir(parents=True)
    live, users = temporary(tmp_path / "out"), tmp_path / ".out.abcdef12.partial"
    live.mkdir()
    users.mkdir()
    md.publish(trained.run("spt/seed-0"), tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out", live.name, users.name}


def test_an_estimate_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mechdistill.config import expand
    from mechdistill.training import estimate

    monkeypatch.setattr("tempfile.mkdtemp", lambda *a, **k: pytest.fail("a kill would leave it there"))
    monkeypatch.chdir(tmp_path)
    estimate(micro(), expand(micro()), jobs=1)
    assert not list(tmp_path.iterdir())
