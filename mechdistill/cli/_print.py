"""Where output goes: tables and JSON to stdout, everything else to stderr."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mechdistill.errors import visible

stderr = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def stdout() -> Console:
    """For results; wide enough not to cut tables where stdout is no terminal."""
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=160)


def print_json(rows: pd.DataFrame) -> None:
    """The one document that --json prints: {"schema": 1, "rows": [...]}; null where there is no value."""
    records = [{key: _plain(value) for key, value in row.items()} for row in rows.to_dict("records")]
    # dates and the like come from the user's own SQL
    json.dump({"schema": 1, "rows": records}, sys.stdout, allow_nan=False, default=str)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is pd.NA or value is pd.NaT or value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(part) for part in value]
    return value


def table(title: str, columns: list[str], rows: list[list[str]], *, right: int = 1) -> Table:
    """A rich table; columns from index `right` on are numbers."""
    grid = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for i, column in enumerate(columns):
        grid.add_column(column, justify="right" if i >= right else "left", no_wrap=i == 0, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


def number(value: Any, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    return "-" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def write_figure(directory: Path, name: str, figure: Any) -> None:
    """Put a figure into the directory, and say where."""
    from mechdistill.plots import to_html
    from mechdistill.runs import FIGURES, write_text

    path = directory / FIGURES / f"{name}.html"
    write_text(path, to_html(figure))
    stderr.print(f"figure: {path}   (opens offline; tables: {directory}/**/tables)")


def print_rows(rows: pd.DataFrame, as_json: bool) -> None:
    """Any table, as it is."""
    if as_json:
        print_json(rows)
        return
    cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
    numbers = next((i for i, kind in enumerate(rows.dtypes) if pd.api.types.is_numeric_dtype(kind)), len(rows.columns))
    stdout().print(table("", list(rows.columns), cells, right=numbers))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.6g}"
    return "-" if value is None or value is pd.NA or value is pd.NaT else visible(str(value))
