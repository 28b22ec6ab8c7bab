"""The metrics log of a run: a JSON line a metric and evaluation, appended while training, a table at the end.

Each line is sealed by a hash of itself and of the seal before, the first one's of the run's identity: a line that is
altered, missing, doubled or another run's breaks the chain there. Where the log ends, others must say: status.json,
and the state to resume from.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs import _migrate
from mechdistill.runs._binding import Damaged, End, Owner
from mechdistill.runs._files import FILE_BYTES, append_text, read_text, write_text
from mechdistill.tables import METRICS_LOG, RUN_COLUMNS, frame, with_run

COLUMNS = tuple(column.name for column in (*RUN_COLUMNS, *METRICS_LOG.columns))
_SEAL = ', "seal": "'


def start(owner: Owner) -> End:
    """The end of a log without rows."""
    return End(0, owner.identity)


def append(run: Path, end: End, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> End:
    """Add the rows of one evaluation to a log that ends at `end`, and give its new end."""
    path = run / layout.METRICS_LOG
    lines, end = _sealed([{"step": step, "tokens": tokens, **row} for row in rows], end)
    append_text(path, "".join(lines))
    return end


def sync(run: Path) -> None:
    """Have all that was appended on the disk, before anything there relies on it."""
    path = run / layout.METRICS_LOG
    if not path.exists():
        return
    try:
        with path.open("ab") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise MechdistillError(f"{path}: cannot be written ({error.strerror}); free space or permit it") from None


def read(owner: Owner, end: End | None = None) -> list[dict[str, Any]]:
    """The rows so far, at least up to `end`. A last line that a kill cut short is left out.

    Raises `MechdistillError` naming the file, and the line where it is another than was written.
    """
    path = owner.path / layout.METRICS_LOG
    if end is not None and not end.rows and not path.exists():
        return []
    *lines, last = read_text(path, FILE_BYTES).split("\n")
    sealed = owner.strict or _SEAL in (*lines, last)[0]
    rows: list[dict[str, Any]] = []
    seals = [owner.identity]
    for number, line in enumerate([*lines, last] if last else lines, start=1):
        try:
            row, seal = _unsealed(line, seals[-1]) if sealed else (json.loads(line), "")
            rows.append(_migrate.metric_row(row))
            seals.append(seal)
        except (ValueError, RecursionError, AttributeError, KeyError):
            if number > len(lines):  # no end of line: the write was cut short
                break
            raise Damaged(f"{path}, line {number}: damaged, doubled, or another run's; {_fix(owner)}") from None
    if sealed and end is not None and (len(rows) < end.rows or seals[end.rows] != end.seal):
        raise Damaged(f"{path}: is cut short (after {len(rows)} lines of {end.rows}); {_fix(owner)}")
    return rows


def _fix(owner: Owner) -> str:
    return f"restore it, or delete {owner.path} to have the run trained afresh"


def cut(owner: Owner, step: int, end: End | None) -> End:
    """Forget what was logged after `step`, where the log ended at `end`; raises as `read` does."""
    kept = [row for row in read(owner, end) if row["step"] <= step]
    if end is not None and len(kept) != end.rows:
        raise Damaged(f"{owner.path / layout.METRICS_LOG}: has other rows up to step {step}; {_fix(owner)}")
    lines, end = _sealed(kept, start(owner))
    write_text(owner.path / layout.METRICS_LOG, "".join(lines))
    return end


def table(owner: Owner, config: RunConfig, end: End | None = None) -> pd.DataFrame:
    """The log as the long `metrics` table with the run's columns; raises as `read` does."""
    rows = read(owner, end)
    when = pd.DataFrame({key: [row.pop(key) for row in rows] for key in ("step", "tokens")}, dtype="Int64")
    named = with_run(when, run=str(config.path), arm=config.treatment, seed=config.seed)
    return pd.concat([named, frame(METRICS_LOG, rows)], axis=1)


def _sealed(rows: Sequence[Mapping[str, Any]], end: End) -> tuple[list[str], End]:
    lines: list[str] = []
    seal = end.seal
    for row in rows:
        body = json.dumps(row, allow_nan=False)[:-1]
        seal = _hash(seal, body)
        lines.append(f'{body}{_SEAL}{seal}"}}\n')
    return lines, End(end.rows + len(lines), seal)


def _unsealed(line: str, before: str) -> tuple[dict[str, Any], str]:
    """A row and its seal; raises ValueError unless it follows the seal `before`."""
    body, _, tail = line.rpartition(_SEAL)
    seal = _hash(before, body)
    if tail != f'{seal}"}}':
        raise ValueError
    return json.loads(f"{body}}}"), seal


def _hash(before: str, body: str) -> str:
    return hashlib.sha256(f"{before}\n{body}".encode()).hexdigest()[:16]
