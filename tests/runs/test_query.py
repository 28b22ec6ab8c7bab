import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import mechdistill as md
from mechdistill.config import RunConfig, expand, to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Measured, Run, list_runs, sql
from mechdistill.runs._find import identify
from mechdistill.runs._tables import read_table, write_table
from mechdistill.source import source_digest
from mechdistill.tables import MEASURES, METRICS_LOG, ROW_CURVES, RUN_COLUMNS
from tests.helpers import copied, micro, unfinished

OWN = ["experiment", "path"]


@pytest.fixture(scope="module")
def measured(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an experiment, measured, in a directory whose name is hostile, and the same again deeper down."""
    folder = tmp_path_factory.mktemp("query")
    copied(trained.path, folder / 'it\'s a "run"; --')
    copied(trained.path, folder / "deeper/down")
    first = Experiment(folder / 'it\'s a "run"; --')
    md.induction_scores(first, "last")
    md.row_curves(first, "last")
    return folder


@pytest.fixture
def copy(trained: Experiment, tmp_path: Path) -> Path:
    """A folder with a copy of the trained experiment that a test may damage."""
    copied(trained.path, tmp_path / "runs/copy")
    return tmp_path / "runs"


def left_out(act: Callable[[], pd.DataFrame]) -> tuple[pd.DataFrame, list[str]]:
    """What comes out, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = act()
    return result, [str(warning.message) for warning in caught]


def test_runs_of_several_experiments_are_listed(measured: Path) -> None:
    found = list_runs(measured)
    seeds = ["seed", "init_seed", "data_seed", "teacher_seed"]
    assert list(found) == ["run", "experiment", "arm", *seeds, "state", "step", "tokens", "seconds", "path"]
    assert list(found["run"]) == 2 * ["dpt/seed-0", "spt/seed-0", "teachers/young/seed-0"]
    assert list(found["experiment"]) == 3 * ["deeper/down"] + 3 * ['it\'s a "run"; --']
    for row in found.to_dict("records"):
        run = Run(Path(row["path"]))
        expected = {"run": run.name, "arm": run.config.treatment, "seed": run.config.seed}
        expected |= {key: run.status[key] for key in ("state", "step", "tokens", "seconds")}
        assert {key: row[key] for key in expected} == expected


def test_metrics_are_those_that_pandas_reads(measured: Path) -> None:
    columns = [column.name for column in (*RUN_COLUMNS, *METRICS_LOG.columns)]
    files = sorted(measured.rglob("metrics.parquet"))
    assert len(files) == 6
    expected = pd.concat([read_table(file, columns).assign(path=str(file.parent)) for file in files])
    ours = sql("SELECT * EXCLUDE (experiment) FROM metrics", measured)
    keys = ["path", "step", "metric", "bucket", "occurrence"]
    ours, expected = (table.sort_values(keys).reset_index(drop=True) for table in (ours, expected))
    pd.testing.assert_frame_equal(ours, expected, check_dtype=False)
    assert ours.dtypes.map(str).to_dict() == {
        **{column.name: column.dtype for column in (*RUN_COLUMNS, *METRICS_LOG.columns)},
        "path": "string",
    }


def test_cached_measures_are_views(measured: Path) -> None:
    for view in ("induction_scores", "row_curves"):
        table = view.replace("_", "-")
        columns = [column.name for column in (*RUN_COLUMNS, *MEASURES[table].columns)]
        files = list(measured.rglob(f"tables/{table}-*.parquet"))
        expected = pd.concat([read_table(file, columns) for file in files])
        ours = sql(f"SELECT * FROM {view}", measured)
        assert list(ours) == [*columns, *OWN]
        assert len(ours) == len(expected) > 0
        assert ours["value"].sum() == pytest.approx(expected["value"].sum())
    joined = sql("SELECT count(*) AS n FROM induction_scores JOIN runs USING (path) WHERE state = 'finished'", measured)
    assert joined["n"].item() == len(sql("FROM induction_scores", measured))


def test_views_have_their_columns_where_nothing_is_measured(tmp_path: Path) -> None:
    assert list_runs(tmp_path).empty
    assert list(sql("FROM runs", tmp_path)) == list(list_runs(tmp_path))
    views = set(sql("SHOW TABLES", tmp_path)["name"])
    assert {"runs", "metrics", "induction_scores", "row_curves", "ablate"} <= views
    tables = {"metrics": METRICS_LOG, **{name.replace("-", "_"): m for name, m in MEASURES.items()}}
    assert set(tables) == views - {"runs"}
    for view, table in tables.items():
        empty = sql(f"FROM {view}", tmp_path)
        schema = (*RUN_COLUMNS, *table.columns)
        assert list(empty) == [*(column.name for column in schema), *OWN]
        assert [str(kind) for kind in empty.dtypes][:-2] == [column.dtype for column in schema]
        assert {"metric", "value"} <= set(empty)


def test_an_unfinished_runs_log_is_read(copy: Path) -> None:
    run = Run(copy / "copy/spt/seed-0")
    whole = sql("FROM metrics WHERE run = 'spt/seed-0'", copy)
    unfinished(run.path)
    pd.testing.assert_frame_equal(sql("FROM metrics WHERE run = 'spt/seed-0'", copy), whole)
    state = list_runs(copy).set_index("run").loc["spt/seed-0"]
    assert state["state"] == "interrupted"


def test_a_run_by_itself_and_an_experiment_by_itself(copy: Path, tmp_path: Path) -> None:
    assert set(list_runs(copy / "copy")["experiment"]) == {"copy"}
    shutil.copytree(copy / "copy/spt/seed-0", tmp_path / "lone")
    for folder in (tmp_path / "lone", copy / "copy/spt"):
        alone = list_runs(folder)
        assert (alone["run"].item(), alone["experiment"].item()) == ("spt/seed-0", "micro")


@pytest.mark.parametrize(
    "name", ["spt", "true", "123", "null", "1e3", "no", "a_b-c", "0x1F", "spt-lr-x0.5", "1.5", "1..2"]
)
def test_every_name_that_a_config_can_have_is_read_without_yaml(name: str, tmp_path: Path) -> None:
    config = next(run for run in expand(micro()) if run.treatment == "teacher:young")
    for arm in (name, f"teacher:{name}"):
        other = {"treatment": arm, "experiment": name.replace(".", ""), "seed": 17}
        named = RunConfig.model_validate(config.model_dump() | other)
        (tmp_path / "config.yaml").write_text(to_yaml(named))
        found = identify(tmp_path, tmp_path, None)
        assert (found.run, found.arm, found.seed, found.experiment) == (str(named.path), arm, 17, named.experiment)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.yaml", "defaults: [a, b]\n"),
        ("config.yaml", None),
        ("status.json", "{"),
        ("status.json", json.dumps({"state": 1, "step": "x", "steps": 1, "tokens": 1, "seconds": 1})),
        ("status.json", json.dumps({"state": "x", "step": 10**30, "steps": 1, "tokens": 1, "seconds": 1})),
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_there(copy: Path, file: str, content: str | None) -> None:
    path = copy / "copy/spt/seed-0" / file
    path.unlink()
    if content is not None:
        path.write_text(content)
    for act in (lambda: list_runs(copy), lambda: sql("SELECT DISTINCT run FROM metrics", copy)):
        found, said = left_out(act)
        assert set(found["run"]) == {"dpt/seed-0", "teachers/young/seed-0"}
        assert len(said) == 1
        assert "left out" in said[0]
        assert str(path) in said[0]


def test_a_run_in_anothers_place_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "copy/spt/seed-0")
    shutil.copytree(copy / "copy/dpt/seed-0", copy / "copy/spt/seed-0")
    found, said = left_out(lambda: list_runs(copy))
    assert set(found["run"]) == {"dpt/seed-0", "teachers/young/seed-0"}
    assert "is that of dpt/seed-0, not of spt/seed-0" in said[0]


def test_anothers_metrics_are_named(copy: Path) -> None:
    shutil.copy(copy / "copy/dpt/seed-0/metrics.parquet", copy / "copy/spt/seed-0/metrics.parquet")
    found, said = left_out(lambda: sql("SELECT DISTINCT path FROM metrics", copy))
    assert len(found) == 2
    assert "spt/seed-0/metrics.parquet: belongs to another run" in said[0]


def test_a_flipped_bit_anywhere_in_a_table_is_found_or_changes_nothing(copy: Path) -> None:
    path = copy / "copy/spt/seed-0/metrics.parquet"
    folder = path.parent
    whole, original = sql("FROM metrics", folder), path.read_bytes()
    noticed = 0
    positions = range(0, len(original), len(original) // 150)
    for position in positions:
        damaged = bytearray(original)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        found, said = left_out(lambda: sql("FROM metrics", folder))
        noticed += bool(said)
        if not said:
            pd.testing.assert_frame_equal(found, whole)
        else:
            assert found.empty
            assert str(path) in said[0]
    assert noticed > len(positions) / 3
    path.write_bytes(original[:-7])
    assert len(left_out(lambda: sql("FROM metrics", folder))[1]) == 1


def test_a_damaged_log_is_named(copy: Path) -> None:
    run = copy / "copy/spt/seed-0"
    unfinished(run)
    log = (run / "metrics.jsonl").read_text()
    for damaged in (log.replace('"metric"', '"metric', 1), "[1]\n" + log, log.replace('"step": 0', '"step": "x"', 1)):
        (run / "metrics.jsonl").write_text(damaged)
        found, said = left_out(lambda: sql("FROM metrics", run))
        assert found.empty
        assert "metrics.jsonl" in said[0]


def test_links_are_named_and_not_followed(copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (copy / "copy/dpt").rename(elsewhere)
    (copy / "copy/dpt").symlink_to(elsewhere)
    metrics = copy / "copy/spt/seed-0/metrics.parquet"
    metrics.rename(tmp_path / "metrics.parquet")
    metrics.symlink_to(tmp_path / "metrics.parquet")
    found, said = left_out(lambda: sql("SELECT DISTINCT run FROM metrics", copy))
    assert list(found["run"]) == ["teachers/young/seed-0"]
    assert len(said) == 2
    assert all("is a link" in line for line in said)


def test_the_newest_table_of_a_checkpoint_counts_and_the_older_is_named(measured: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(next(measured.glob("it*")) / "spt/seed-0", tmp_path / "run"))
    (older,) = run.glob(f"tables/row-curves-{24:08d}-*.parquet")
    columns = [column.name for column in (*RUN_COLUMNS, *ROW_CURVES.columns)]
    newer = read_table(older, columns).assign(value=7.0)
    file = run / f"tables/row-curves-{24:08d}-0123456789abcdef.parquet"
    write_table(file, newer, Run(run).owner, Measured(source_digest(), {}))
    found, said = left_out(lambda: sql("SELECT DISTINCT value FROM row_curves", tmp_path))
    assert found["value"].tolist() == [7.0]
    assert [str(older) in line for line in said] == [True]


def test_tables_of_another_source_are_shown_and_said_to_be_in_one_line(measured: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(next(measured.glob("it*")), tmp_path / "copy"))
    columns = [column.name for column in (*RUN_COLUMNS, *ROW_CURVES.columns)]
    for path in copy.rglob("tables/row-curves-*.parquet"):
        owner = Run(path.parent.parent).owner
        write_table(path, read_table(path, columns), owner, Measured("0123456789abcdef", {}))
    found, said = left_out(lambda: sql("SELECT DISTINCT run FROM row_curves", tmp_path))
    assert len(found) == 3
    assert said == [
        "3 tables of row-curves, by another source than the present; `mechdistill row-curves` measures anew"
    ]
    assert left_out(lambda: sql("FROM induction_scores", tmp_path))[1] == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_parquet('{metrics}')",
        "SELECT * FROM '{metrics}'",
        "SELECT * FROM glob('/*')",
        "COPY metrics TO '{out}'",
        "COPY metrics TO '{out}' (FORMAT parquet)",
        "EXPORT DATABASE '{out}'",
        "ATTACH '{out}'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '{out}'",
        "RESET lock_configuration",
        "SELECT 1; SET enable_external_access = true; SELECT * FROM read_text('{file}')",
        "SELECT * FROM secret",
    ],
)
def test_a_query_reaches_no_file_and_no_python_object(query: str, copy: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "secret.csv", tmp_path / "out"
    file.write_text("a,b\n1,2\n")
    secret = pd.DataFrame({"a": [1]})
    with pytest.raises(MechdistillError, match="query: "):
        sql(query.format(file=file, out=out, metrics=copy / "copy/spt/seed-0/metrics.parquet"), copy)
    assert not out.exists()
    assert len(secret) == 1


@pytest.mark.parametrize("query", ["", "  ;", "-- nothing"])
def test_no_query_is_refused(query: str, tmp_path: Path) -> None:
    with pytest.raises(MechdistillError, match="is empty; write a SELECT"):
        sql(query, tmp_path)


def test_results_keep_their_types_and_all_their_columns(tmp_path: Path) -> None:
    row = sql(
        "SELECT sum(i) AS total, sum(i) FILTER (i > 9) AS none, 1.5 AS price, 2::HUGEINT ** 100 AS huge, i = 1 AS yes, "
        "'x' AS same, 'y' AS same FROM (VALUES (1), (2)) AS v(i) GROUP BY i = 1 ORDER BY total",
        tmp_path,
    ).to_dict("records")[0]
    assert row["total"] == 1
    assert isinstance(row["total"], int)
    assert row["none"] is None
    assert row["price"] == 1.5
    assert row["huge"] == pytest.approx(2.0**100)
    assert row["yes"] is True
    assert [row["same"], row["same_6"]] == ["x", "y"]


def test_a_name_that_the_text_hides_is_found_all_the_same(copy: Path) -> None:
    hidden = sql("SELECT count(*) AS n FROM query_table('met' || 'rics')", copy)
    assert hidden["n"].item() == len(sql("FROM metrics", copy)) > 0


def test_no_folder_is_refused(tmp_path: Path) -> None:
    for act in (lambda: list_runs(tmp_path / "no"), lambda: sql("SELECT 1", tmp_path / "no")):
        with pytest.raises(MechdistillError, match="no such directory"):
            act()


def test_queries_need_no_torch(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys, mechdistill as md\nmd.sql('SELECT 1', sys.argv[1])\n"
        "heavy = {'torch', 'transformer_lens'} & set(sys.modules)\nassert not heavy, heavy"
    )
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
