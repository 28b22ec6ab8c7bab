"""Data frames on stdout: as JSON, or as a table."""

import json
import math
import sys
from typing import Any

import numpy as np
import pandas as pd

from mechdistill.cli._console import show
from mechdistill.cli._grid import Grid
from mechdistill.errors import visible


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


def number(value: Any, digits: int = 3) -> str:
    """A number for a table; a dash where there is none."""
    if value is None or pd.isna(value):
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def interval(low: Any, high: Any, digits: int = 3) -> str:
    """Both ends of an interval; a dash where there is none."""
    ends = [number(end, digits) for end in (low, high)]
    return "-" if "-" in ends else " to ".join(ends)


def print_rows(rows: pd.DataFrame, as_json: bool, *, drop: tuple[str, ...] = ()) -> None:
    """Any table, as it is; `drop` names what goes first where there is no room."""
    if as_json:
        print_json(rows)
        return
    cells = [[_cell(value) for value in row] for row in rows.itertuples(index=False)]
    texts = frozenset(i for i, kind in enumerate(rows.dtypes) if not pd.api.types.is_numeric_dtype(kind))
    show([Grid("", list(rows.columns), cells, texts=texts, drop=drop)])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.6g}"
    return "-" if value is None or value is pd.NA or value is pd.NaT else visible(str(value))
