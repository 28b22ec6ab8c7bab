"""Tables on disk: parquet with a digest of its values and of whose they are, so that no other is silently used.

Each says by which schema it was written; those of earlier ones are brought up to the present one as they are read.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mechdistill.errors import MechdistillError
from mechdistill.runs import _migrate
from mechdistill.runs._binding import Damaged, Owner
from mechdistill.runs._files import FILE_BYTES, read_bytes, refuse_irregular, write_bytes

_KEY = b"mechdistill sha256"
_SOURCE = b"mechdistill source"
_DEFINITIONS = b"mechdistill definitions"
_MOST_ROWS = 5_000_000
_SCHEMA = b"mechdistill schema"  # absent: 1
_RUN = b"mechdistill run"  # whose it is; absent where no file named its run
_FILE = b"mechdistill file"  # its name there


class Measured(NamedTuple):
    """What measured a table."""

    source: str  # digest of mechdistill's own
    definitions: Mapping[str, str]  # users' definitions that it depends on: kind and name, digest


class About(NamedTuple):
    """What a table says of itself."""

    schema: int
    measured: Measured | None  # None: by no measure, or it does not say
    of: str | None  # identity of the run that it belongs to, and its name there
    file: str | None

    def refuse_foreign(self, path: Path, owner: Owner) -> None:
        """Raise `Damaged` if it is another run's, or another one of this run's."""
        owner.claim(path, self.of)
        if self.file not in (None, path.name):
            raise Damaged(f"{path}: is {self.file} under another name; restore the run's own file")


def about(metadata: Mapping[bytes, bytes] | None) -> About:
    """By the metadata of a parquet file; raises ValueError where they are damaged."""
    metadata = metadata or {}
    measured = None
    if source := metadata.get(_SOURCE, b"").decode():
        definitions = json.loads(metadata.get(_DEFINITIONS, b"{}"))
        measured = Measured(source, {str(name): str(digest) for name, digest in definitions.items()})
    of, file = (metadata[key].decode() if key in metadata else None for key in (_RUN, _FILE))
    return About(int(metadata.get(_SCHEMA, b"1")), measured, of, file)


def _digest(table: pd.DataFrame, metadata: Mapping[bytes, bytes]) -> bytes:
    text = table.to_csv(index=False)  # survives a round trip through parquet to the last digit
    total = hashlib.sha256(text.encode())
    if _RUN in metadata:
        notes = [metadata.get(key, b"") for key in (_RUN, _FILE, _SCHEMA, _SOURCE, _DEFINITIONS)]
        notes.append(" ".join(map(str, table.dtypes)).encode())
        total.update(b"\n".join(notes))
    return total.hexdigest().encode()


def write_table(path: Path, table: pd.DataFrame, owner: Owner | None = None, measured: Measured | None = None) -> None:
    """Write or replace a parquet file atomically; `owner` is the run it belongs to, `measured` what measured it."""
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    notes = {_SCHEMA: str(_migrate.SCHEMA).encode()}
    if owner is not None:
        notes |= {_RUN: owner.identity.encode(), _FILE: path.name.encode()}
    if measured is not None:
        notes |= {_SOURCE: measured.source.encode(), _DEFINITIONS: json.dumps(dict(measured.definitions)).encode()}
    notes[_KEY] = _digest(table, notes)
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **notes})
    buffer = io.BytesIO()
    pq.write_table(arrow, buffer, write_page_checksum=True)  # `runs sql` checks these: the digest would take too long
    write_bytes(path, buffer.getvalue())


def refuse_huge(path: Path, metadata: pq.FileMetaData) -> None:
    """Raise `MechdistillError` before a table is unpacked that is larger than any of ours."""
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if metadata.num_rows > _MOST_ROWS or size > FILE_BYTES:
        raise MechdistillError(
            f"{path}: has {metadata.num_rows:,} rows of {size:,} bytes in all; at most {_MOST_ROWS:,} rows and "
            f"{FILE_BYTES:,} bytes are read; delete it"
        )


def read_measured(path: Path) -> Measured | None:
    """What measured a table, as written; None where it does not say, or is damaged."""
    try:
        refuse_irregular(path)
        return about(pq.read_schema(path).metadata).measured
    except (MechdistillError, OSError, ValueError, AttributeError, pa.ArrowException):
        return None


def read_table(
    path: Path, columns: Sequence[str], owner: Owner | None = None, occurrences: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read a table. `occurrences` are the names of those that schema 1 numbered; without them only the present is read.

    Raises `MechdistillError` if it was altered, cut short, has other columns, is of a schema that cannot be read, or
    does not belong to `owner`.
    """
    fix = "delete it" if path.parent.name == "tables" else "restore it, or delete the run to train it afresh"
    try:
        file = pq.ParquetFile(pa.BufferReader(read_bytes(path)))
        refuse_huge(path, file.metadata)
        arrow = file.read()
        said = about(arrow.schema.metadata)
        table = arrow.to_pandas()
        metadata = arrow.schema.metadata or {}
        intact = metadata.get(_KEY) == _digest(table, metadata)
    except MechdistillError:
        raise
    except Exception as error:  # a damaged header makes pyarrow raise nearly anything
        raise Damaged(f"{path}: corrupt ({type(error).__name__}); {fix}") from None
    schema = said.schema
    _migrate.refuse_newer(path, schema, _migrate.SCHEMA)
    if not intact or list(table.columns) != list(columns):
        raise Damaged(f"{path}: corrupt (its values are not those that were written); {fix}")
    if owner is not None:
        said.refuse_foreign(path, owner)
    if schema >= _migrate.NAMED:
        return table
    if occurrences is None:
        raise MechdistillError(f"{path}: was measured by an earlier version; delete it, and measure again")
    try:
        texts = _migrate.occurrence(arrow["occurrence"], occurrences).to_pylist()
    except pa.ArrowException:
        raise Damaged(f"{path}: corrupt (it has occurrences that never were); {fix}") from None
    return table.assign(occurrence=pd.Series(texts, index=table.index, dtype="string"))
