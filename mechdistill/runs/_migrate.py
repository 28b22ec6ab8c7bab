"""Reading what earlier versions wrote: a config and a table say their version, and become the present one here.

Before version 3 of a config, files did not say which run they belong to (see `_binding`). Version 1 called a run's
treatment its arm, and numbered occurrences: 2 was "2 or more" in metrics, but in tables of rows it was the second
alone, and 3 the rest. Schema 3 of tables gave head scores a p-value; the measures' tables of
earlier ones are measured anew. To change what is written: raise the version, and say here what becomes of the one
before.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError

CONFIG_VERSION: int = RunConfig.model_fields["version"].default  # of config.yaml
SCHEMA = 3  # of tables
NAMED = 2  # the first whose occurrences are text

OF_METRICS = ("0", "1", "2+")
"""What version 1 meant by occurrence 0, 1, ... in inline metrics."""
OF_ROWS = ("0", "1", "2", "3+")
"""The same in tables of rows."""


def config(data: Any, path: Path) -> Any:
    """The content of a config.yaml as the present version has it; what is no config is left to be refused as such."""
    if not isinstance(data, dict):
        return data
    version = data.get("version")
    refuse_newer(path, version, CONFIG_VERSION)
    if type(version) is not int or version < 1:
        raise MechdistillError(f"{path}: version={version!r} must be 1 to {CONFIG_VERSION}; restore the file")
    renamed = {"treatment" if key == "arm" and version == 1 else key: value for key, value in data.items()}
    return {**renamed, "version": CONFIG_VERSION}


def metric_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the metrics log as the present version has it; raises KeyError for an occurrence that never was."""
    number = row.get("occurrence")
    return {**row, "occurrence": dict(enumerate(OF_METRICS))[number]} if type(number) is int else dict(row)


def occurrence(numbers: pa.Array | pa.ChunkedArray, names: Sequence[str]) -> pa.Array | pa.ChunkedArray:
    """A column of version 1 as text; null stays null. Raises ArrowException for a number that has no name."""
    return pa.array(names, pa.large_string()).take(numbers)


def refuse_newer(path: Path, version: Any, present: int) -> None:
    """Raise `MechdistillError` for a version that does not exist yet."""
    if isinstance(version, int) and version > present:
        raise MechdistillError(
            f"{path}: is of version {version}, and this mechdistill reads up to {present}; install a newer mechdistill"
        )
