"""Writing so that a reader never sees half a file: to a temporary name, then renamed."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from mechdistill.errors import MechdistillError


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file atomically; its directory is made if need be.

    Raises `MechdistillError` if the disk refuses; what was there before is then still there.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MechdistillError(f"{path}: cannot be written ({error.strerror}); free space or permit it") from None
    finally:
        with suppress(OSError):  # its own failure must not hide the one that matters
            temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write or replace a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write or replace a JSON file atomically; nan and inf are no JSON and raise."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that a killed writer left behind; the folder's lock must be held."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def read_text(path: Path) -> str:
    """A file's text; raises `MechdistillError` if it is missing or no text."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MechdistillError(f"{path}: missing, so this is no complete run directory") from None
    except (OSError, UnicodeDecodeError) as error:
        raise MechdistillError(f"{path}: cannot be read as text ({error})") from None


def read_json(path: Path) -> Any:
    """A JSON file's value; raises `MechdistillError` if it is none."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise MechdistillError(f"{path}: not valid JSON ({error.msg}); restore or delete the run") from None
