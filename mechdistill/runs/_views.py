"""Tables of many runs as arrow, for queries: read fast, and so checked by their pages' checksums alone.

The digest of all values that `read_table` compares would take longer than all of the rest.
"""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mechdistill.errors import MechdistillError
from mechdistill.registry import definitions_loaded
from mechdistill.runs import _binding, _metrics, _migrate
from mechdistill.runs import _layout as layout
from mechdistill.runs._cache import cached_tables
from mechdistill.runs._files import read_bytes, refuse_link
from mechdistill.runs._find import Found, leave_out
from mechdistill.runs._tables import About, about, refuse_huge
from mechdistill.source import source_digest


def metrics(found: list[Found], columns: pa.Schema) -> Iterator[tuple[Found, pa.Table]]:
    """The inline metrics of every run that has any: from its log where it has not finished."""
    for run in found:
        path, log = run.path / layout.METRICS, run.path / layout.METRICS_LOG
        try:
            _binding.refuse_missing(run.path, run.held)
            if path.exists():
                yield run, _fitted(path, _named_occurrences(path, _open(path, run)), run, columns)
            elif log.exists() or (run.held and run.held.log):
                refuse_link(log)
                own = {"run": run.run, "arm": run.arm, "seed": run.seed}
                rows = _metrics.read(run.owner, run.held.log if run.held else None)
                yield run, pa.Table.from_pylist([row | own for row in rows], schema=columns)
        except MechdistillError as error:
            leave_out(error)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            leave_out(f"{log}: damaged; delete the run to train it afresh")


def measured(found: list[Found], measure: str, columns: pa.Schema) -> Iterator[tuple[Found, pa.Table]]:
    """The cached tables of a measure, one a checkpoint; what else there is to say, in one line a kind.

    Of several it is the one that depends on most of the users' definitions that are loaded now, and of those the
    newest. What depends on any other definition is left out: without its file nobody can say what its numbers are.
    """
    loaded = {name: origin.digest for name, origin in definitions_loaded().items()}
    earlier, elsewhere, unknown, older = 0, 0, set[str](), list[Path]()
    for run in found:
        chosen: dict[int, _Cached] = {}
        unread: dict[int, set[str]] = {}
        for path, step in _by_age(run, measure):
            if step is None:
                earlier += 1
                continue
            try:
                opened = _open(path, run)
                if opened.about.schema < _migrate.SCHEMA:
                    earlier += 1
                    continue
                table = _fitted(path, opened.table, run, columns)
            except MechdistillError as error:
                leave_out(error)
                continue
            if not len(table):
                continue
            needs = opened.definitions
            others = {name for name, digest in needs.items() if loaded.get(name) != digest}
            if others:
                unread.setdefault(step, set()).update(others)
                continue
            before = chosen.get(step)
            if before is not None and len(before.definitions) > len(needs):
                continue
            if before is not None and before.definitions == needs:
                older.append(before.path)
            chosen[step] = _Cached(path, opened.about, table)
        unknown |= {name for step, names in unread.items() if step not in chosen for name in names}
        elsewhere += sum(cached.source != source_digest() for cached in chosen.values())
        yield from ((run, cached.table) for cached in chosen.values())
    again = f"`mechdistill {measure}` measures anew"
    if earlier:
        leave_out(f"{_tables(earlier)} of {measure}, by an earlier version; {again}")
    if unknown:
        leave_out(f"tables of {measure} that depend on {', '.join(sorted(unknown))}; name its file by --plugin")
    if older:
        others = f" and {len(older) - 1} more" * (len(older) > 1)
        leave_out(f"{older[0]}{others}: there is a newer table of the same checkpoint; delete the older")
    if elsewhere:
        warnings.warn(f"{_tables(elsewhere)} of {measure}, by another source than the present; {again}", stacklevel=2)


class _Cached(NamedTuple):
    path: Path
    about: About
    table: pa.Table

    @property
    def source(self) -> str:
        return self.about.measured.source if self.about.measured else ""

    @property
    def definitions(self) -> Mapping[str, str]:
        return self.about.measured.definitions if self.about.measured else {}


def _by_age(run: Found, measure: str) -> list[tuple[Path, int | None]]:
    """The cached tables of a measure and their steps, oldest first."""
    files = cached_tables(run.path, measure)
    return [(file.path, file.step) for file in sorted(files, key=lambda file: file.path.lstat().st_mtime_ns)]


def _tables(count: int) -> str:
    return "1 table" if count == 1 else f"{count} tables"


def _open(path: Path, run: Found) -> _Cached:
    """A parquet file and what it says of itself.

    Raises `MechdistillError` if it is damaged, another run's, or cannot be read yet.
    """
    refuse_link(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(read_bytes(path)), page_checksum_verification=True)
        refuse_huge(path, file.metadata)
        table = file.read(use_threads=False)
        said = about(table.schema.metadata)
    except MechdistillError:
        raise
    except Exception as error:  # a damaged header makes pyarrow raise nearly anything
        raise MechdistillError(f"{path}: corrupt ({type(error).__name__}); delete it") from None
    _migrate.refuse_newer(path, said.schema, _migrate.SCHEMA)
    said.refuse_foreign(path, run.owner)
    return _Cached(path, said, table.replace_schema_metadata(None))


def _fitted(path: Path, table: pa.Table, run: Found, columns: pa.Schema) -> pa.Table:
    """A table as its view has it; raises `MechdistillError` where it is another run's, or another table."""
    if table.schema.names != columns.names:
        raise MechdistillError(f"{path}: corrupt (it has other columns than its table); delete it")
    try:
        table = table if table.schema == columns else table.cast(columns)
    except pa.ArrowException as error:
        raise MechdistillError(f"{path}: corrupt ({type(error).__name__}); delete it") from None
    if set(table["run"].unique().to_pylist()) - {run.run}:
        raise MechdistillError(f"{path}: is not about {run.run}; restore the run's own file")
    return table


def _named_occurrences(path: Path, opened: _Cached) -> pa.Table:
    """A table of metrics with occurrences as text, also where schema 1 wrote it."""
    if opened.about.schema >= _migrate.NAMED or "occurrence" not in opened.table.column_names:
        return opened.table
    try:
        texts = _migrate.occurrence(opened.table["occurrence"], _migrate.OF_METRICS)
    except pa.ArrowException:
        raise MechdistillError(f"{path}: corrupt (it has occurrences that never were); delete it") from None
    return opened.table.set_column(opened.table.column_names.index("occurrence"), "occurrence", texts)
