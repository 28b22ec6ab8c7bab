"""The metrics log of a run: a JSON line a metric and evaluation, appended while training, a table at the end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs import _migrate
from mechdistill.runs._files import FILE_BYTES, append_text, read_text, write_text
from mechdistill.tables import METRICS_LOG, RUN_COLUMNS, frame, with_run

COLUMNS = tuple(column.name for column in (*RUN_COLUMNS, *METRICS_LOG.columns))


def append(run: Path, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add the rows of one evaluation."""
    path = run / layout.METRICS_LOG
    lines = [json.dumps({"step": step, "tokens": tokens, **row}, allow_nan=False) for row in rows]
    append_text(path, "".join(f"{line}\n" for line in lines))


def read(run: Path) -> list[dict[str, Any]]:
    """The rows so far. A last line that a kill cut short is left out; any other damage is refused by its line."""
    path = run / layout.METRICS_LOG
    lines = read_text(path, FILE_BYTES).splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_migrate.metric_row(json.loads(line)))
        except (ValueError, RecursionError, AttributeError, KeyError) as error:
            if number < len(lines) or not isinstance(error, json.JSONDecodeError):
                raise MechdistillError(f"{path}, line {number}: damaged; delete the run to train it afresh") from None
    return rows


def cut(run: Path, step: int) -> None:
    """Forget what was logged after `step`."""
    kept = [json.dumps(row) + "\n" for row in read(run) if row["step"] <= step]
    write_text(run / layout.METRICS_LOG, "".join(kept))


def table(run: Path, config: RunConfig) -> pd.DataFrame:
    """The log as the long `metrics` table with the run's columns."""
    rows = read(run)
    when = pd.DataFrame({key: [row.pop(key) for row in rows] for key in ("step", "tokens")}, dtype="Int64")
    named = with_run(when, run=str(config.path), arm=config.treatment, seed=config.seed)
    return pd.concat([named, frame(METRICS_LOG, rows)], axis=1)
