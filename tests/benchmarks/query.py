"""`md.sql` over many run directories against DuckDB on one parquet file of the same rows."""

import json
import statistics
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from mechdistill.config import expand, load_experiment, to_yaml
from mechdistill.runs import _binding, sql
from mechdistill.runs._tables import write_table
from mechdistill.tables import METRICS_LOG, frame, with_run
from tests.benchmarks.pairs import seconds

_QUERY = "SELECT arm, metric, count(*) AS n, avg(value) AS mean FROM {} GROUP BY ALL ORDER BY ALL"
_METRICS, _EVALUATIONS = 14, 25  # 350 rows a run


def seconds_beyond_one_file(rounds: int, steps: int) -> list[float]:
    """Seconds that a query over 500 run directories takes beyond the same query by DuckDB on one file.

    The rows and the answers are the same; imports are not counted. Prints both times.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs, one = Path(folder, "runs"), Path(folder, "one.parquet")
        write_table(one, pd.concat(_make_runs(runs, min(500, 50 * steps))))  # few in a smoke test
        file = f"read_parquet('{one}')"
        assert duckdb.sql(_QUERY.format(file)).fetchall() == _rows(sql(_QUERY.format("metrics"), runs))
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(seconds(lambda: sql(_QUERY.format("metrics"), runs)))
            theirs.append(seconds(lambda: duckdb.connect().sql(_QUERY.format(file)).fetchall()))
        n = len(list(runs.iterdir()))
    print(f"{n} runs: {statistics.median(ours):.3f} s, one file: {statistics.median(theirs):.3f} s (medians)")
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def _rows(table: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(table.itertuples(index=False, name=None))


def _make_runs(folder: Path, n: int) -> list[pd.DataFrame]:
    """Finished runs as `train` leaves them, without checkpoints: config, status and metrics."""
    rng = np.random.default_rng(0)
    config = expand(load_experiment(settings=["arms={spt: {alpha: 0.0}}", "seeds=[0]"]))[-1]
    text, tables = to_yaml(config), []
    status = {"state": "finished", "step": 1200, "steps": 1200, "tokens": 2_457_600, "seconds": 60.0}
    for seed in range(n):
        run = folder / f"seed-{seed}"
        rows = [{"metric": f"metric-{m}", "occurrence": str(m % 3)} for m in range(_METRICS)] * _EVALUATIONS
        values = [
            row | {"value": float(value)} for row, value in zip(rows, rng.integers(0, 100, len(rows)), strict=True)
        ]
        step = pd.Series(np.repeat(np.arange(_EVALUATIONS) * 50, _METRICS), dtype="Int64")
        when = pd.DataFrame({"step": step, "tokens": step * 2048})
        named = with_run(when, run=f"spt/seed-{seed}", arm="spt", seed=seed)
        tables.append(pd.concat([named, frame(METRICS_LOG, values)], axis=1))
        owner = _binding.begin(run, text.replace("\nseed: 0\n", f"\nseed: {seed}\n"), {"conditions": {}})
        write_table(run / "metrics.parquet", tables[-1], owner)
        held = _binding.Held(("metrics.parquet",))
        (run / "status.json").write_text(json.dumps(_binding.sealed(status, owner.identity, held)))
    return tables
