"""Many runs as rows and as SQL views: DuckDB over the tables of every run in a folder, at any depth.

Only files of that folder are read, and before the query runs; the query itself sees tables in memory and can reach no
file. Neither torch nor a YAML parser is needed, so that hundreds of runs answer at once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from mechdistill import arguments
from mechdistill.errors import MechdistillError, visible
from mechdistill.runs._find import SEEDS, Found, find
from mechdistill.runs._views import measured, metrics
from mechdistill.tables import MEASURES, METRICS_LOG, RUN_COLUMNS, RUNS, Column, Table

_EXPERIMENT = Column("experiment", "string", "path of the experiment inside the folder; a lone run's own experiment")
_PATH = Column("path", "string", "directory of the run")
_OF_RUN = {column.name: column for column in RUNS.columns}
_LIST = tuple(
    _EXPERIMENT if name == "experiment" else _OF_RUN[name]
    for name in ("run", "experiment", "arm", "seed", *SEEDS, "state", "step", "tokens", "seconds", "path")
)
_ARROW = {"string": pa.large_string(), "Int64": pa.int64(), "float64": pa.float64(), "boolean": pa.bool_()}


def list_runs(folder: str | Path = "runs") -> pd.DataFrame:
    """All runs under a folder, one row each: run, experiment, arm, seed, init_seed, data_seed, teacher_seed,
    state, step, tokens, seconds, path.

    A directory that is damaged or no run of ours is left out with a warning that names it. Raises `MechdistillError`
    where there is no such folder.
    """
    return _frame(_run_rows(find(arguments.path(folder, "folder"))))


def sql(query: str, folder: str | Path = "runs") -> pd.DataFrame:
    """The result of one SQL query (DuckDB's dialect) over all runs under a folder.

    Views: `runs` (the rows of `list_runs`), `metrics` (every run's inline metrics, unfinished runs included) and one
    for each cached measure, named like its table with underscores (`induction_scores`, `row_curves`, `ablate`); each
    has the columns of its table in `mechdistill.tables` and `experiment` and `path`, and is empty where nothing has
    been measured. `path` tells runs apart. Damaged files are left out with a warning that names them.

    Raises `MechdistillError` where there is no such folder, or DuckDB refuses the query.
    """
    arguments.instance(query, "query", str, "must be one SQL query, as text")
    found = find(arguments.path(folder, "folder"))
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


def _schema(columns: tuple[Column, ...]) -> pa.Schema:
    return pa.schema([(column.name, _ARROW[column.dtype]) for column in columns])


def _run_rows(found: list[Found]) -> pa.Table:
    rows = [{**run.status, **vars(run), **run.seeds, "path": visible(str(run.path))} for run in found]
    return pa.Table.from_pylist(rows, schema=_schema(_LIST))


def _rows(found: list[Found], wanted: Table, schema: pa.Schema) -> pa.Table:
    """The rows of one view."""
    columns = pa.schema(list(schema)[:-2])  # without what only a view has
    read = metrics(found, columns) if wanted is METRICS_LOG else measured(found, wanted.name, columns)
    tables: list[pa.Table] = [schema.empty_table()]
    for run, table in read:
        for column, value in ((_EXPERIMENT.name, run.experiment), (_PATH.name, visible(str(run.path)))):
            cells = pa.repeat(pa.scalar(value, pa.large_string()), len(table))
            table = table.append_column(column, cells)
        tables.append(table)
    return pa.concat_tables(tables)


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
