"""`mechdistill runs list` and `runs sql`: many runs as one table. Neither loads torch."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from mechdistill.cli._print import print_json, stderr, stdout, table
from mechdistill.runs import list_runs, sql


def show_list(folder: Path, as_json: bool) -> None:
    """All runs under a folder."""
    found = list_runs(folder)
    _print(found, as_json)
    if found.empty:
        stderr.print(f"no runs under {folder}; `mechdistill train` makes some")


def show_sql(query: str, folder: Path, as_json: bool) -> None:
    """The result of a query."""
    _print(sql(query, folder), as_json)


def _print(rows: pd.DataFrame, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
    numbers = next((i for i, kind in enumerate(rows.dtypes) if pd.api.types.is_numeric_dtype(kind)), len(rows.columns))
    stdout().print(table("", list(rows.columns), cells, right=numbers))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.6g}"
    return "-" if value is None or value is pd.NA or value is pd.NaT else str(value)
