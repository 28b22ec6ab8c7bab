"""Where a file goes that the user named: refused in a line before minutes of measuring, if it cannot go there."""

import os
from pathlib import Path

from mechdistill.errors import MechdistillError


def check_destination(option: str, path: Path, what: str, kinds: tuple[str, ...]) -> str:
    """The kind of file, its suffix in lower case. `what` are written as `kinds`.

    Raises `MechdistillError` for another suffix, for a directory, and where nothing may be written.
    """
    kind = path.suffix.lower()
    if kind not in kinds:
        wanted = path.with_suffix(kinds[0]) if path.name else f"{what[:-1]}{kinds[0]}"
        listed = " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))
        raise MechdistillError(f"{option} {path}: {what} are written as {listed}; name it like {wanted}")
    try:
        is_directory, there = path.is_dir(), next(folder for folder in path.absolute().parents if folder.exists())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MechdistillError(f"{option} {str(path)[:80]}: can be no file ({reason}); give another name") from None
    if is_directory:
        raise MechdistillError(f"{option} {path}: is a directory; name a file")
    if not there.is_dir():
        raise MechdistillError(f"{option} {path}: {there} is a file; name another folder")
    if not os.access(there, os.W_OK):
        raise MechdistillError(f"{option} {path}: {there} may not be written; permit it, or name another folder")
    return kind
