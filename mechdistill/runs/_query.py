"""Many runs as rows and as SQL views: DuckDB over the tables of every run in a folder, at any depth.

Only files of that folder are read, and before the query runs; the query itself sees tables in memory and can reach no
file. Neither torch nor a YAML parser is needed, so that hundreds of runs answer at once.
"""

import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs import _metrics
from mechdistill.runs._cache import cached_tables
from mechdistill.runs._files import read_text
from mechdistill.runs._status import read_status
from mechdistill.tables import MEASURES, METRICS_LOG, RUN_COLUMNS, RUNS, Column, Table

_EXPERIMENT = Column("experiment", "string", "path of the experiment inside the folder; a lone run's own experiment")
_PATH = Column("path", "string", "directory of the run")
_OF_RUN = {column.name: column for column in RUNS.columns}
_LIST = tuple(
    _EXPERIMENT if name == "experiment" else _OF_RUN[name]
    for name in ("run", "experiment", "arm", "seed", "state", "step", "tokens", "seconds", "path")
)
_ARROW = {"string": pa.large_string(), "Int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_()}
# the head of a config.yaml as `to_yaml` writes it: plain or quoted names, one key a line
_HEAD = re.compile(r"""^(experiment|arm|seed): *["']?([A-Za-z0-9:_-]+)["']? *(?:#.*)?$""", re.MULTILINE)
_MARKS = {layout.CONFIG, layout.STATUS, layout.METRICS, layout.METRICS_LOG}  # any of them makes a directory a run


def list_runs(folder: str | Path = "runs") -> pd.DataFrame:
    """All runs under a folder, one row each: run, experiment, arm, seed, state, step, tokens, seconds, path.

    A directory that is damaged or no run of ours is left out with a warning that names it. Raises `MechdistillError`
    where there is no such folder.
    """
    return _frame(_run_rows(_find(Path(folder))))


def sql(query: str, folder: str | Path = "runs") -> pd.DataFrame:
    """The result of one SQL query (DuckDB's dialect) over all runs under a folder.

    Views: `runs` (the rows of `list_runs`), `metrics` (every run's inline metrics, unfinished runs included) and one
    for each cached measure, named like its table with underscores (`induction_scores`, `row_curves`, `ablate`); each
    has the columns of its table in `mechdistill.tables` and `experiment` and `path`, and is empty where nothing has
    been measured. `path` tells runs apart. Damaged files are left out with a warning that names them.

    Raises `MechdistillError` where there is no such folder, or DuckDB refuses the query.
    """
    found = _find(Path(folder))
    views: dict[str, tuple[pa.Schema, Callable[[], pa.Table]]] = {"runs": (_schema(_LIST), lambda: _run_rows(found))}
    tables: tuple[Table, ...] = (METRICS_LOG, *MEASURES.values())
    for table in tables:
        schema = _schema((*RUN_COLUMNS, *table.columns, _EXPERIMENT, _PATH))
        views[table.name.replace("-", "_")] = schema, lambda table=table, schema=schema: _rows(found, table, schema)
    connection = duckdb.connect(":memory:", config={"temp_directory": ""})
    try:
        text = query.lower()
        for view, (schema, read) in views.items():
            # a view that is not named need not be read; query() and query_table() name one in ways that do not show
            wanted = view in text or "query" in text
            connection.register(view, read() if wanted else schema.empty_table())
        # from here on no file, no extension and no Python variable is in reach, nor the setting that says so
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        if not connection.extract_statements(query):
            raise MechdistillError(f"query {query!r}: is empty; write a SELECT over {', '.join(views)}")
        return _frame(connection.sql(query).to_arrow_table())
    except (duckdb.Error, pa.ArrowException) as error:
        what = " ".join(str(error).partition("\n\nLINE")[0].split())
        raise MechdistillError(f"query: {what} (views: {', '.join(views)}; DESCRIBE a view for its columns)") from None
    finally:
        connection.close()


@dataclass(frozen=True)
class _Found:
    """A run's directory and what it says of itself."""

    path: Path
    experiment: str
    run: str
    arm: str
    seed: int
    status: dict[str, Any]


def _find(folder: Path) -> list[_Found]:
    """The runs under a folder by experiment, students first."""
    if not folder.is_dir():
        raise MechdistillError(f"{folder}: no such directory; give the folder that holds your runs")
    found: list[_Found] = []
    for path, experiment in _candidates(folder):
        try:
            found.append(_identify(folder, path, experiment))
        except MechdistillError as error:
            _leave_out(error)
    return sorted(found, key=lambda run: (run.experiment, run.run.startswith("teachers/"), run.arm, run.seed, run.path))


def _candidates(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Directories that look like runs, each with the experiment directory around it."""
    experiments: dict[Path, Path | None] = {}
    for name, folders, files in os.walk(
        folder, onerror=lambda error: _leave_out(f"{error.filename}: {error.strerror}")
    ):
        here = Path(name)
        around = here if layout.EXPERIMENT in files else experiments.get(here.parent)
        if _MARKS.intersection(files):
            folders.clear()
            yield here, around
        for child in folders:
            if (here / child).is_symlink():
                _leave_out(f"{here / child}: is a link; give the directory that it points to")
        experiments[here] = around


def _identify(folder: Path, path: Path, around: Path | None) -> _Found:
    config = path / layout.CONFIG
    for file in (config, path / layout.STATUS):
        _refuse_link(file)
    head = dict(_HEAD.findall(read_text(config)))
    if not {"experiment", "arm", "seed"} <= set(head) or not head["seed"].isdecimal():
        raise MechdistillError(f"{config}: names no experiment, arm and seed; restore it, or move what is no run away")
    arm, seed = head["arm"], int(head["seed"])
    run = str(RunConfig.model_construct(arm=arm, seed=seed).path)
    experiment = head["experiment"]
    if around is not None:
        if str(path.relative_to(around)) != run:
            raise MechdistillError(f"{config}: is that of {run}, not of {path.relative_to(around)}; restore its files")
        experiment = folder.resolve().name if around == folder else str(around.relative_to(folder))
    return _Found(path, experiment, run, arm, seed, read_status(path))


def _refuse_link(path: Path) -> None:
    """A run directory from somebody else must not make us read another place."""
    if path.is_symlink():
        raise MechdistillError(f"{path}: is a link; put the file itself there")


def _leave_out(reason: MechdistillError | str) -> None:
    warnings.warn(f"left out: {reason}", stacklevel=2)


def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([(column.name, _ARROW[column.dtype]) for column in columns])


def _run_rows(found: list[_Found]) -> pa.Table:
    rows = [{**vars(run), **run.status, "path": str(run.path)} for run in found]
    return pa.Table.from_pylist(rows, schema=_schema(_LIST))


def _rows(found: list[_Found], wanted: Table, schema: pa.Schema) -> pa.Table:
    """The rows of one view."""
    tables: list[pa.Table] = [schema.empty_table()]
    for run in found:
        own = _metric_table(run, schema) if wanted is METRICS_LOG else _measured(run, wanted.name, schema)
        for table in own:
            for column, value in ((_EXPERIMENT.name, run.experiment), (_PATH.name, str(run.path))):
                cells = pa.repeat(pa.scalar(value, pa.large_string()), len(table))
                table = table.append_column(column, cells)
            tables.append(table)
    return pa.concat_tables(tables)


def _metric_table(run: _Found, schema: pa.Schema) -> list[pa.Table]:
    path, log = run.path / layout.METRICS, run.path / layout.METRICS_LOG
    try:
        if path.exists():
            return [_read(path, run, schema)]
        if not log.exists():
            return []
        _refuse_link(log)
        own = {"run": run.run, "arm": run.arm, "seed": run.seed}
        columns = pa.schema(list(schema)[:-2])
        return [pa.Table.from_pylist([row | own for row in _metrics.read(run.path)], schema=columns)]
    except (MechdistillError, pa.ArrowException, TypeError) as error:
        _leave_out(
            error if isinstance(error, MechdistillError) else f"{log}: damaged; delete the run to train it afresh"
        )
        return []


def _measured(run: _Found, name: str, schema: pa.Schema) -> list[pa.Table]:
    """The cached tables of a measure, the newest of each checkpoint."""
    newest: dict[int | None, tuple[Path, pa.Table]] = {}
    files = [(file.path.lstat().st_mtime_ns, file) for file in cached_tables(run.path, name)]
    for _, file in sorted(files):
        if file.step is None:
            _leave_out(f"{file.path}: was measured by an earlier version; `mechdistill {name}` measures it again")
            continue
        try:
            table = _read(file.path, run, schema)
        except MechdistillError as error:
            _leave_out(error)
            continue
        if not len(table):
            continue
        if file.step in newest:
            older = newest[file.step][0]
            _leave_out(f"{older}: {file.path.name} is a newer table of the same checkpoint; delete one of them")
        newest[file.step] = file.path, table
    return [table for _, table in newest.values()]


def _read(path: Path, run: _Found, schema: pa.Schema) -> pa.Table:
    """A run's parquet file without the two columns that the view adds; raises `MechdistillError` if it is damaged.

    Its pages have checksums, which arrow compares here. The digest of all values that `read_table` compares would
    take longer than all of the rest.
    """
    _refuse_link(path)
    columns = pa.schema(list(schema)[:-2])
    try:
        file = pq.ParquetFile(pa.BufferReader(path.read_bytes()), page_checksum_verification=True)
        table = file.read(use_threads=False).replace_schema_metadata(None)
        fits = table.schema.names == columns.names
        if fits and table.schema != columns:
            table = table.cast(columns)
    except Exception as error:  # a damaged header makes pyarrow raise nearly anything
        raise MechdistillError(f"{path}: corrupt ({type(error).__name__}); delete it") from None
    if not fits:
        raise MechdistillError(f"{path}: corrupt (it has other columns than its table); delete it")
    if set(table["run"].unique().to_pylist()) - {run.run}:
        raise MechdistillError(f"{path}: is not about {run.run}; restore the run's own file")
    return table


def _frame(table: pa.Table) -> pd.DataFrame:
    """As pandas with the types of `mechdistill.tables`: an integer stays one beside nulls, names are unique."""
    names: list[str] = []
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if pa.types.is_decimal(column.type):  # DuckDB's sums of integers, and its decimal literals
            table = table.set_column(i, name, column.cast(_plain(column)))
        names.append(name if name not in names else f"{name}_{i}")
    return table.rename_columns(names).to_pandas(types_mapper=_pandas_type)


def _plain(column: pa.ChunkedArray) -> pa.DataType:
    small = column.type.scale == 0 and all(cell is None or abs(cell) < 2**63 for cell in column.to_pylist())
    return pa.int64() if small else pa.float64()


def _pandas_type(kind: pa.DataType) -> Any:
    if pa.types.is_integer(kind):
        return pd.UInt64Dtype() if pa.types.is_uint64(kind) else pd.Int64Dtype()
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    return pd.StringDtype() if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None
