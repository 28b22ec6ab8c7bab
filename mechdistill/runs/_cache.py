"""Cached tables of measures: tables/<measure>-<step>-<key>.parquet, beside the weights that they are about.

The key says what a table depends on. What measured it is also noted inside, so that tables of an earlier source can be
told apart: they are replaced when the measure is applied again.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from mechdistill.errors import MechdistillError, NotStored
from mechdistill.runs._binding import Owner
from mechdistill.runs._files import remove_leftovers
from mechdistill.runs._tables import Measured, read_measured, read_table, write_table
from mechdistill.tables import Measure

_FILE = re.compile(r"(.+)-(\d{8})-([0-9a-f]{16})\.parquet")
_EARLIER = re.compile(r"(.+)-([0-9a-f]{16})\.parquet")  # before the step was part of the name


class CachedTable(NamedTuple):
    """A file that holds a measure's table of one checkpoint."""

    path: Path
    measure: str
    step: int | None  # None: of an earlier layout


def cached_tables(run: Path, measure: str | None = None) -> list[CachedTable]:
    """A run's cached tables, of one measure or all, by name."""
    found: list[CachedTable] = []
    for path in sorted((run / "tables").glob("*.parquet")):
        if match := _FILE.fullmatch(path.name):
            found.append(CachedTable(path, match[1], int(match[2])))
        elif match := _EARLIER.fullmatch(path.name):
            found.append(CachedTable(path, match[1], None))
    return [table for table in found if measure in (None, table.measure)]


def cached(
    owner: Owner,
    measure: Measure,
    step: int,
    key: str,
    by: Measured,
    compute: Callable[[], pd.DataFrame],
    *,
    fresh: bool,
) -> pd.DataFrame:
    """The table of a measure at a checkpoint of a run, computed and stored if absent or `fresh`.

    It is only a cache: a damaged or foreign file is recomputed and a directory that cannot be written is left as it
    is, both with a warning. Tables that another source measured at this checkpoint are removed.
    """
    run = owner.path
    path = run / "tables" / f"{measure.name}-{step:08d}-{key}.parquet"
    remove_leftovers(path.parent)
    if path.exists() and not fresh:
        try:
            return read_table(path, measure.all_columns, owner)
        except MechdistillError as error:
            warnings.warn(f"computing anew: {error}", stacklevel=2)
    table = compute()
    try:
        write_table(path, table, owner, by)
        for other in cached_tables(run, measure.name):
            measured = read_measured(other.path)
            if other.step is None or (other.step == step and (measured is None or measured.source != by.source)):
                other.path.unlink(missing_ok=True)
    except (MechdistillError, OSError) as error:
        warnings.warn(f"not cached: {error}", NotStored, stacklevel=2)
    return table
