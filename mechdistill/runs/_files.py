"""Reading and writing in a run directory, which may be anybody's.

Nobody sees half a file: it is written to a temporary name, then renamed. What is read is a regular file of a bounded
size, so that neither a pipe nor a device hangs us.
"""

import json
import os
import platform
import re
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from mechdistill.errors import MechdistillError
from mechdistill.reading import open_regular

RECORD_BYTES = 2**22
"""How large a config or a record may be."""
FILE_BYTES = 2**31
"""How large a log or a table may be."""

_DEPTH = 16  # of a JSON value; ours have 3
_FOLDERS = ("checkpoints", "tables", "figures", "resume", "branches")
_MARK = "mechdistill"
_TEMPORARY = re.compile(rf"\..+\.{_MARK}-([0-9a-f]{{8}})-(\d+)-[0-9a-f]{{8}}\.tmp")


def temporary(path: Path) -> Path:
    """A name beside `path` for what is not complete yet. It says whose it is: machine and process."""
    return path.with_name(f".{path.name[:40]}.{_MARK}-{_host()}-{os.getpid()}-{uuid4().hex[:8]}.tmp")


def is_left_over(path: Path) -> bool:
    """Whether it is a `temporary` of a process of this machine that is no more; others' files never are."""
    match = _TEMPORARY.fullmatch(path.name)
    return match is not None and match[1] == _host() and not is_alive(int(match[2]))


def _host() -> str:
    return sha256(platform.node().encode()).hexdigest()[:8]


def is_alive(process: int) -> bool:
    """Whether a process of this machine still is."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def remove_leftovers(folder: Path, *, deep: bool = False) -> None:
    """Delete the temporary files that killed writers left behind in a folder, or `deep`, also in those below it."""
    for where, folders, names in os.walk(folder):
        for name in names:
            if is_left_over(path := Path(where, name)):
                with suppress(OSError):  # the next one tries again
                    path.unlink()
        if not deep:
            folders.clear()


def write_bytes(path: Path, data: bytes) -> None:
    """Write or replace a file atomically; its directory is made if need be, and freed of what killed writers left.

    Raises `MechdistillError` if the disk refuses; what was there before is then still there.
    """
    whole = temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        with whole.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(path)
    except OSError as error:
        raise MechdistillError(f"{path}: cannot be written ({error.strerror}); free space or permit it") from None
    finally:
        with suppress(OSError):  # a disk that refuses refuses this too, and what it refused first is what counts
            whole.unlink(missing_ok=True)


def append_text(path: Path, text: str) -> None:
    """Add to the end of a regular file, or begin it; raises `MechdistillError` if that cannot be done."""
    try:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        with open(os.open(path, flags, 0o666), "a", encoding="utf-8") as file:  # noqa: PTH123  (a descriptor)
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "it is no regular file")
            file.write(text)
    except OSError as error:
        raise MechdistillError(f"{path}: cannot be written ({error.strerror}); free space or permit it") from None


def write_text(path: Path, text: str) -> None:
    """Write or replace a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write or replace a JSON file atomically; nan and inf are no JSON and raise."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def is_directory(path: Path) -> bool:
    """Whether a path that the user gives is one; raises `MechdistillError` for what can be no path."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MechdistillError(f"{str(path)[:80]}: is no path that can be opened ({reason}); give another") from None


def refuse_irregular(path: Path, most: int | None = None) -> None:
    """Raise `MechdistillError` for what is there and no regular file, or too large; a missing file is none.

    Nor is a link: somebody else's run directory must not make us read another place.
    """
    refuse_link(path)
    try:
        found = path.stat()
    except OSError:  # whoever reads it says what is wrong with it
        return
    if not stat.S_ISREG(found.st_mode):
        raise MechdistillError(f"{path}: is no regular file; restore the run's own")
    if most is not None and found.st_size > most:
        raise MechdistillError(f"{path}: has {found.st_size:,} bytes, and at most {most:,} are read; restore it")


def refuse_link(path: Path) -> None:
    """Raise `MechdistillError` for a link: somebody else's run directory must not make us read or write elsewhere."""
    if path.is_symlink():
        raise MechdistillError(f"{path}: is a link; put the file or directory itself there")


def refuse_inner_links(root: Path, directory: Path | None = None) -> None:
    """Raise `MechdistillError` where what we would write into is a link: it must not lead us out of `root`.

    That is every folder on the way to a run's `directory`, if one is named, and the run's or experiment's own folders.
    `root` itself may be a link, since the user has named it.
    """
    inner = directory or root
    for part in (inner, *inner.parents):
        if part == root:
            break
        refuse_link(part)
    for name in _FOLDERS:
        refuse_link(inner / name)


def read_bytes(path: Path, most: int = FILE_BYTES) -> bytes:
    """A regular file's content; raises `MechdistillError` if there is none or it is too large."""
    refuse_irregular(path, most)
    try:
        with open_regular(path) as file:
            return file.read(os.fstat(file.fileno()).st_size)
    except FileNotFoundError:
        raise MechdistillError(f"{path}: missing, so this is no complete run directory") from None
    except OSError as error:
        raise MechdistillError(f"{path}: cannot be read ({error.strerror}); restore it or permit it") from None


def read_text(path: Path, most: int = RECORD_BYTES) -> str:
    """A file's text; raises `MechdistillError` if it is missing or no text."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise MechdistillError(f"{path}: cannot be read as text ({error}); restore it") from None


def read_json(path: Path) -> Any:
    """A JSON file's value; raises `MechdistillError` if it is none, or nested as no record of ours is."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        what = getattr(error, "msg", "out of bounds")
        raise MechdistillError(f"{path}: not valid JSON ({what}); restore or delete the run") from None
    if _depth(value) > _DEPTH:
        raise MechdistillError(f"{path}: is nested more than {_DEPTH} deep; restore it")
    return value


def _depth(value: Any) -> int:
    depth, inner = 0, [value]
    while inner and depth <= _DEPTH:
        parts = [part.values() if isinstance(part, dict) else part for part in inner if isinstance(part, dict | list)]
        inner = [one for part in parts for one in part]
        depth += 1
    return depth
