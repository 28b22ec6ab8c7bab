"""version-1/ is a directory that version 1 wrote, host and processor struck out; one of its cached tables is left."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run, _metrics, list_runs, load, sql
from mechdistill.runs._tables import write_table
from mechdistill.training import train
from tests.runs.test_query import left_out

WRITTEN = Path(__file__).parent / "version-1"
ARMS = ("spt", "spt-lr-x0.5", "dpt", "dpt-lr-x0.5")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WRITTEN, tmp_path / "old"))


def opened(path: Path) -> Experiment:
    experiment = load(path)
    assert isinstance(experiment, Experiment)
    return experiment


def numbered(file: Path) -> pd.DataFrame:
    """A table as version 1 wrote it."""
    return pq.read_table(file).to_pandas()


def test_a_treatment_was_called_arm(old: Path) -> None:
    runs = opened(old).runs
    assert [run.config.treatment for run in runs] == [*ARMS, "teacher:young"]
    assert [run.config.version for run in runs] == 5 * [3]
    assert YAML(typ="safe").load(WRITTEN / "spt/seed-0/config.yaml")["arm"] == "spt"


@pytest.mark.parametrize("arm", ARMS)
def test_metrics_pooled_where_they_said_2(old: Path, arm: str) -> None:
    run = Run(old / arm / "seed-0")
    before, now = numbered(run.path / "metrics.parquet"), run.metrics()
    assert set(before["occurrence"].dropna()) == {0, 1, 2}
    assert now["occurrence"].dtype == "string"
    pd.testing.assert_series_equal(now["occurrence"] == "2+", before["occurrence"] == 2, check_dtype=False)
    pd.testing.assert_frame_equal(now.drop(columns="occurrence"), before.drop(columns="occurrence"))
    queried = sql("SELECT * EXCLUDE (experiment, path) FROM metrics", run.path)
    pd.testing.assert_frame_equal(queried, now, check_dtype=False)


def test_tables_of_rows_pooled_only_from_3_on(old: Path) -> None:
    run = Run(old / "dpt/seed-0")
    before, now = numbered(run.path / "targets.parquet"), run.targets()
    assert now is not None
    assert now["occurrence"].tolist() == [{0: "0", 1: "1", 2: "2", 3: "3+"}[n] for n in before["occurrence"]]
    pd.testing.assert_frame_equal(now.drop(columns="occurrence"), before.drop(columns="occurrence"))


def test_the_log_of_an_unfinished_run_is_read_and_goes_on_in_one_notation(old: Path) -> None:
    run = Run(old / "spt/seed-0")
    table = run.metrics()
    (run.path / "metrics.parquet").unlink()
    pd.testing.assert_frame_equal(run.metrics(), table)
    pd.testing.assert_frame_equal(
        sql("SELECT * EXCLUDE (experiment, path) FROM metrics", run.path), table, check_dtype=False
    )
    end = _metrics.cut(run.owner, 4, None)
    _metrics.append(run.path, end, 8, 512, [{"metric": "copy-loss", "value": 1.0, "occurrence": "2+"}])
    rows = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    assert {row["occurrence"] for row in rows if row.get("occurrence") is not None} == {"0", "1", "2+"}
    log = run.path / "metrics.jsonl"
    log.write_text(log.read_text().replace('"occurrence": "2+"', '"occurrence": 7'))
    with pytest.raises(MechdistillError, match=r"metrics.jsonl, line \d+: damaged"):
        run.metrics()


def test_training_goes_on_in_an_old_directory(old: Path) -> None:
    before = {path: path.read_bytes() for path in old.rglob("seed-0/**/*") if path.is_file()}
    config = opened(old).config.model_copy(update={"seeds": (0, 1)})
    assert {outcome.state for outcome in train(config, old)} == {"finished"}
    assert {path: path.read_bytes() for path in before} == before, "finished runs are left as they are"
    runs = opened(old).runs
    assert {run.config.seed for run in runs} == {0, 1}
    together = sql("SELECT DISTINCT seed, occurrence FROM metrics WHERE metric = 'copy-accuracy'", old)
    assert set(zip(together["seed"], together["occurrence"], strict=True)) == {
        (s, o) for s in (0, 1) for o in ("1", "2+")
    }
    with pytest.raises(MechdistillError, match=r"sandbox.vocab=9: .* was made with 8"):
        train(config.model_copy(update={"sandbox": config.sandbox.model_copy(update={"vocab": 9})}), old)


def test_an_old_directory_is_listed_compared_measured_and_published(old: Path, tmp_path: Path) -> None:
    listed, said = left_out(lambda: list_runs(old))
    assert said == []
    assert listed["arm"].tolist() == ["dpt", "dpt-lr-x0.5", "spt", "spt-lr-x0.5", "teacher:young"]
    experiment = opened(old)
    compared = md.compare(experiment)
    assert set(compared["arm"]) == {"spt-lr-x0.5", "dpt", "dpt-lr-x0.5"}
    known = compared["difference"].notna()
    assert known.eq(compared["metric"] != "formation-tokens").all(), "nothing formed in steps as few as these"
    curves = md.row_curves(experiment, "last")
    assert {"2", "3+"} <= set(curves["occurrence"].dropna())
    assert "floor" in set(curves[curves["run"] == "dpt/seed-0"]["metric"])
    assert [path.name.split("-")[2] for path in (old / "spt/seed-0/tables").iterdir()] == ["00000008"]
    md.publish(experiment, tmp_path / "out")
    published = opened(tmp_path / "out")
    for run in published.runs:
        assert "version: 3\n" in (run.path / "config.yaml").read_text()
        pd.testing.assert_frame_equal(run.metrics(), experiment.run(run.name).metrics())


def test_earlier_tables_are_only_cache_and_get_one_line(old: Path) -> None:
    for run in opened(old).runs:
        shutil.copytree(WRITTEN / "spt/seed-0/tables", run.path / "tables", dirs_exist_ok=True)
        write_table(run.path / f"tables/row-curves-00000008-{16 * 'a'}.parquet", numbered(run.path / "metrics.parquet"))
        unmark(run.path / f"tables/row-curves-00000008-{16 * 'a'}.parquet")
    found, said = left_out(lambda: sql("FROM row_curves", old))
    assert found.empty
    assert said == ["left out: 10 tables of row-curves, by an earlier version; `mechdistill row-curves` measures anew"]


def unmark(path: Path) -> None:
    table = pq.read_table(path)
    kept = {key: value for key, value in table.schema.metadata.items() if key != b"mechdistill schema"}
    pq.write_table(table.replace_schema_metadata(kept), path)


def test_what_a_later_version_wrote_is_refused_in_one_line(old: Path) -> None:
    run = old / "spt/seed-0"
    table = pq.read_table(run / "metrics.parquet")
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"mechdistill schema": b"4"}), run / "metrics.parquet"
    )
    refusal = r"metrics.parquet: is of version 4, and this mechdistill reads up to 3; install a newer mechdistill"
    with pytest.raises(MechdistillError, match=refusal):
        Run(run).metrics()
    _, said = left_out(lambda: sql("SELECT count(*) FROM metrics", old))
    assert len(said) == 1
    assert "is of version 4" in said[0]
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("version: 1", "version: 4"))
    with pytest.raises(MechdistillError, match=r"config.yaml: is of version 4"):
        load(run)
    found, said = left_out(lambda: list_runs(old))
    assert len(found) == 4
    assert "config.yaml: is of version 4" in said[0]
