"""Tables on disk: parquet with a digest of the values, so that an altered file is never silently used.

Each says by which schema it was written; those of earlier ones are brought up to the present one as they are read.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mechdistill.errors import MechdistillError
from mechdistill.runs import _migrate
from mechdistill.runs._files import write_bytes

_KEY = b"mechdistill sha256"
_SOURCE = b"mechdistill source"
_SCHEMA = b"mechdistill schema"  # absent: 1


class About(NamedTuple):
    """What a table says of itself."""

    schema: int
    source: str | None  # digest of what measured it


def about(metadata: Mapping[bytes, bytes] | None) -> About:
    """By the metadata of a parquet file; raises ValueError where they are damaged."""
    metadata = metadata or {}
    return About(int(metadata.get(_SCHEMA, b"1")), metadata.get(_SOURCE, b"").decode() or None)


def _digest(table: pd.DataFrame) -> bytes:
    text = table.to_csv(index=False)  # survives a round trip through parquet to the last digit
    return hashlib.sha256(text.encode()).hexdigest().encode()


def write_table(path: Path, table: pd.DataFrame, source: str = "") -> None:
    """Write or replace a parquet file atomically; `source` is a digest of what measured it."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata(
        {
            **(arrow.schema.metadata or {}),
            _KEY: _digest(table),
            _SOURCE: source.encode(),
            _SCHEMA: str(_migrate.SCHEMA).encode(),
        }
    )
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, write_page_checksum=True)  # `runs sql` checks these: the digest would take too long
    write_bytes(path, buffer.getvalue())


def read_source(path: Path) -> str | None:
    """What measured a table, as written; None where it does not say, or is damaged."""
    try:
        return about(pq.read_schema(path).metadata).source
    except (OSError, ValueError, pa.ArrowException):
        return None


def read_table(path: Path, columns: Sequence[str], occurrences: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table. `occurrences` are the names of those that schema 1 numbered; without them only the present is read.

    Raises `MechdistillError` if it was altered, cut short, has other columns, or is of a schema that cannot be read.
    """
    try:
        arrow = pq.read_table(path)
        schema = about(arrow.schema.metadata).schema
        table = arrow.to_pandas()
        intact = (arrow.schema.metadata or {}).get(_KEY) == _digest(table)
    except Exception as error:  # a damaged header makes pyarrow raise nearly anything
        raise MechdistillError(f"{path}: corrupt ({type(error).__name__}); delete it") from None
    _migrate.refuse_newer(path, schema, _migrate.SCHEMA)
    if not intact or list(table.columns) != list(columns):
        raise MechdistillError(f"{path}: corrupt (its values are not those that were written); delete it")
    if schema == _migrate.SCHEMA:
        return table
    if occurrences is None:
        raise MechdistillError(f"{path}: was measured by an earlier version; delete it, and measure again")
    try:
        texts = _migrate.occurrence(arrow["occurrence"], occurrences).to_pylist()
    except pa.ArrowException:
        raise MechdistillError(f"{path}: corrupt (it has occurrences that never were); delete it") from None
    return table.assign(occurrence=pd.Series(texts, index=table.index, dtype="string"))
