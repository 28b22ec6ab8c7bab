import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mechdistill.runs import Experiment, Run, load, sql
from tests import helpers


class Result:
    """What a command printed, and its exit code."""

    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self) -> list[dict[str, Any]]:
        document = json.loads(self.out)
        assert set(document) == {"schema", "rows"}
        assert document["schema"] == 1
        return document["rows"]


@pytest.fixture
def mechdistill() -> Any:
    def run(*arguments: object) -> Result:
        result = helpers.mechdistill(*arguments)
        return Result(result.returncode, result.stdout, result.stderr)

    return run


@pytest.fixture
def folder(trained: Experiment, tmp_path: Path) -> Path:
    shutil.copytree(trained.path, tmp_path / "runs/one")
    shutil.copytree(trained.path, tmp_path / "runs/deep/two")
    return tmp_path / "runs"


def test_list_shows_the_runs_of_all_experiments(mechdistill: Any, folder: Path) -> None:
    shown = mechdistill("runs", "list", folder)
    assert shown.code == 0, shown.err
    assert shown.out.count("spt/seed-0") >= 2
    assert "deep/two" in shown.out
    rows = mechdistill("runs", "list", folder, "--json").rows
    seeds = ["seed", "init_seed", "data_seed", "teacher_seed"]
    assert list(rows[0]) == ["run", "experiment", "arm", *seeds, "state", "step", "tokens", "seconds", "path"]
    assert [(row["experiment"], row["run"]) for row in rows] == [
        (experiment, run)
        for experiment in ("deep/two", "one")
        for run in ("dpt/seed-0", "spt/seed-0", "teachers/young/seed-0")
    ]
    assert all(Path(row["path"]).is_dir() and row["state"] == "finished" for row in rows)


def test_list_looks_into_runs_unless_told_otherwise(
    mechdistill: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    assert len(mechdistill("runs", "list", "--json").rows) == 6
    assert mechdistill("runs", "sql", "SELECT count(*) AS n FROM runs", "--json").rows == [{"n": 6}]


def test_damage_is_named_on_stderr_and_never_on_stdout(mechdistill: Any, folder: Path) -> None:
    damaged = folder / "one/spt/seed-0"
    (damaged / "status.json").write_text("{")
    (folder / "hydra").mkdir()
    (folder / "hydra/config.yaml").write_text("defaults: []\n")
    for arguments in (["list", folder], ["sql", "SELECT run FROM runs", folder]):
        result = mechdistill("runs", *arguments, "--json")
        assert result.code == 0
        assert len(result.rows) == 5
        lines = result.err.strip().splitlines()
        assert len(lines) == 2
        assert str(damaged / "status.json") in result.err
        assert str(folder / "hydra/config.yaml") in result.err


def test_an_empty_folder_says_so(mechdistill: Any, tmp_path: Path) -> None:
    result = mechdistill("runs", "list", tmp_path, "--json")
    assert result.rows == []
    assert "no runs under" in result.err


def test_sql_prints_a_table_or_json(mechdistill: Any, folder: Path) -> None:
    query = (
        "SELECT experiment, arm, metric, occurrence, value FROM metrics "
        "WHERE step = 24 AND metric IN ('copy-accuracy', 'loss') ORDER BY ALL"
    )
    rows = mechdistill("runs", "sql", query, folder, "--json").rows
    expected = sql(query, folder)
    assert len(rows) == len(expected) > 4
    assert [row["value"] for row in rows] == expected["value"].tolist()
    assert {row["occurrence"] for row in rows} == {None, "1", "2+"}
    shown = mechdistill("runs", "sql", query, folder)
    assert shown.code == 0
    assert "copy-accuracy" in shown.out
    assert "<NA>" not in shown.out
    assert "nan" not in shown.out


def test_any_sql_value_is_json(mechdistill: Any, tmp_path: Path) -> None:
    query = (
        "SELECT DATE '2026-01-02' AS d, TIMESTAMP '2026-01-02 03:04:05' AS t, [1, NULL, 'nan'::DOUBLE] AS l, "
        "{'a': 1, 'b': [2]} AS s, sum(i) AS total, avg(i) FILTER (i > 5) AS none, 'inf'::DOUBLE AS inf, 1.25 AS price, "
        "INTERVAL 1 DAY AS day, 'ab'::BLOB AS blob, NULL AS nothing, NULL::TIMESTAMP AS never, 'nan'::FLOAT AS f "
        "FROM (VALUES (1), (2)) AS v(i)"
    )
    (row,) = mechdistill("runs", "sql", query, tmp_path, "--json").rows
    assert row["d"] == "2026-01-02"
    assert row["t"] == "2026-01-02 03:04:05"
    assert row["l"] == [1, None, None]
    assert row["s"] == {"a": 1, "b": [2]}
    assert (row["total"], row["price"]) == (3, 1.25)
    assert [row[key] for key in ("none", "inf", "nothing", "never", "f")] == 5 * [None]
    assert mechdistill("runs", "sql", query, tmp_path).code == 0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM metric", 'Did you mean "metrics"?'),
        ("SELECT valu FROM metrics", "valu"),
        ("SELECT 1 / 'x'", "query: "),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
        ("", "is empty; write a SELECT"),
    ],
)
def test_a_bad_query_is_one_line_and_exits_two(mechdistill: Any, tmp_path: Path, query: str, message: str) -> None:
    for option in ([], ["--json"]):
        result = mechdistill("runs", "sql", query, tmp_path, *option)
        assert result.code == 2
        assert message in result.err
        assert len(result.err.strip().splitlines()) == 1
        assert result.out == ""


def test_show_tells_one_run(mechdistill: Any, folder: Path) -> None:
    run = Run(folder / "one/dpt/seed-0")
    shown = mechdistill("runs", "show", run.path)
    assert shown.code == 0, shown.err
    for text in ("finished, step 24 of 24", "10, from step 0 to 24", "KL(teacher ‖ student)", "torch", "copy-accuracy"):
        assert text in shown.out
    (row,) = mechdistill("runs", "show", run.path, "--json").rows
    assert row["checkpoints"] == run.steps
    assert row["config"] == run.config.model_dump(mode="json")
    stored = json.loads((run.path / "provenance.json").read_text())
    assert row["provenance"] == {key: value for key, value in stored.items() if key != "binding"}
    metrics = run.metrics().query("step == 24 and metric == 'copy-accuracy' and occurrence == '2+'")
    assert row["copy-accuracy"] == metrics["value"].item()
    for file in ("status.json", "metrics.jsonl", "metrics.parquet", "targets.parquet"):
        (run.path / file).unlink()
    shutil.rmtree(run.path / "checkpoints")
    shutil.rmtree(run.path / "tables", ignore_errors=True)  # of tests that came before
    waiting = mechdistill("runs", "show", run.path)
    assert "waiting" in waiting.out
    assert waiting.out.count("none") == 3


def test_show_of_an_experiment_names_its_runs(mechdistill: Any, folder: Path) -> None:
    result = mechdistill("runs", "show", folder / "one")
    assert result.code == 2
    assert str(folder / "one/spt/seed-0") in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_publish_and_load(mechdistill: Any, folder: Path, tmp_path: Path) -> None:
    result = mechdistill("publish", folder / "one", tmp_path / "out", "--license", "mit", "--checkpoints", "last")
    assert result.code == 0, result.err
    assert result.out == ""
    published = load(tmp_path / "out")
    assert isinstance(published, Experiment)
    assert published.run("spt/seed-0").steps == [24]
    assert "license: mit" in (tmp_path / "out/README.md").read_text()
    again = mechdistill("publish", folder / "one", tmp_path / "out")
    assert again.code == 2
    assert "choose another" in again.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["runs"],
        ["runs", "lst"],
        ["runs", "sql"],
        ["runs", "show", "nowhere"],
        ["runs", "list", "nowhere"],
        ["runs", "sql", "SELECT 1", "nowhere"],
        ["publish", "nowhere"],
        ["publish", "nowhere", "out"],
        ["publish", "nowhere", "out", "--checkpoints", "some"],
    ],
)
def test_wrong_usage_is_one_line_and_exits_two(
    mechdistill: Any, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = mechdistill(*arguments)
    assert result.code == 2
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []


def test_help_loads_neither_torch_nor_duckdb_and_listing_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom mechdistill.cli import main\nsys.argv = ['mechdistill', *sys.argv[2:]]\nheavy = {heavy}\n"
        "try: main()\nexcept SystemExit as e: assert not e.code, e.code\n"
        "found = heavy & set(sys.modules)\nassert not found, found"
    )
    everything = "{'torch', 'duckdb', 'pandas', 'numpy', 'pyarrow'}"
    for heavy, arguments in (
        (everything, ["--help"]),
        (everything, ["runs", "--help"]),
        (everything, ["runs", "sql", "--help"]),
        ("{'torch', 'transformer_lens'}", ["runs", "list", str(tmp_path)]),
        ("{'torch', 'transformer_lens'}", ["runs", "sql", "SELECT 1", str(tmp_path)]),
    ):
        command = [sys.executable, "-c", code.replace("{heavy}", heavy), "", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
