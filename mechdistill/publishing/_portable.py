"""What of a run goes to other people: its record without the author's machine, and no path but a file's name."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

from pydantic import BaseModel

from mechdistill.runs import Run

# of provenance.json; the rest (host, process, kernel) says where its author works
_PROVENANCE = ("created", "revision", "python", "conditions", "packages", "plugins", "fingerprint")

T = TypeVar("T")


def provenance(run: Run) -> dict[str, Any]:
    """The part of a run's provenance that says how it was made."""
    record = run.provenance
    return portable({key: record[key] for key in _PROVENANCE if key in record})


def portable(value: T) -> T:
    """The value with every absolute path cut down to its last part."""
    if isinstance(value, BaseModel):
        parts = {name: portable(getattr(value, name)) for name in type(value).model_fields}
        return value.model_copy(update=parts)
    if isinstance(value, dict):
        return type(value)((key, portable(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return type(value)(portable(part) for part in value)
    if isinstance(value, str) and (
        PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or value.startswith("~")
    ):
        return type(value)(PureWindowsPath(value).name)
    return value
