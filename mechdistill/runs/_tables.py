"""Tables on disk: parquet with a digest of the values, so that an altered file is never silently used."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mechdistill.errors import MechdistillError
from mechdistill.runs._files import write_bytes

_KEY = b"mechdistill sha256"
_SOURCE = b"mechdistill source"


def _digest(table: pd.DataFrame) -> bytes:
    text = table.to_csv(index=False)  # survives a round trip through parquet to the last digit
    return hashlib.sha256(text.encode()).hexdigest().encode()


def write_table(path: Path, table: pd.DataFrame, source: str = "") -> None:
    """Write or replace a parquet file atomically; `source` is a digest of what measured it."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.replace_schema_metadata(
        {**(arrow.schema.metadata or {}), _KEY: _digest(table), _SOURCE: source.encode()}
    )
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, write_page_checksum=True)  # `runs sql` checks these: the digest would take too long
    write_bytes(path, buffer.getvalue())


def read_source(path: Path) -> str | None:
    """What measured a table, as written; None where it does not say, or is damaged."""
    try:
        return (pq.read_schema(path).metadata or {}).get(_SOURCE, b"").decode() or None
    except (OSError, ValueError, pa.ArrowException):
        return None


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table; raises `MechdistillError` if it was altered, cut short, or has other columns."""
    try:
        arrow = pq.read_table(path)
        table = arrow.to_pandas()
        intact = (arrow.schema.metadata or {}).get(_KEY) == _digest(table)
    except Exception as error:  # a damaged header makes pyarrow raise nearly anything
        raise MechdistillError(f"{path}: corrupt ({type(error).__name__}); delete it") from None
    if not intact or list(table.columns) != list(columns):
        raise MechdistillError(f"{path}: corrupt (its values are not those that were written); delete it")
    return table
