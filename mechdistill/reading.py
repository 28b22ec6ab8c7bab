"""Reading files that somebody names: never one that does not end, never more than fits."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def read_regular(path: Path, most: int) -> bytes:
    """A file's content, at most `most` bytes of it.

    Raises OSError, with `strerror` for a message, for what is no regular file (a pipe or a device may never end, and
    opening one may already wait), for a path that there cannot be, and for a larger file.
    """
    try:
        with open_regular(path) as file:
            data = file.read(most + 1)
        if data is None:  # pyright: ignore[reportUnnecessaryComparison]  (what the kernel makes up may have none yet)
            raise OSError(errno.EINVAL, "Not a regular file")
    except ValueError:  # a zero byte, or half of a character
        raise OSError(errno.EINVAL, "Not a possible path") from None
    if len(data) > most:
        raise _too_large(most)
    return data


def open_regular(path: Path) -> BinaryIO:
    """A regular file, opened for reading without waiting; raises OSError for anything else."""
    _refuse_irregular(path.stat())
    file = os.fdopen(os.open(path, _FLAGS), "rb")
    try:
        _refuse_irregular(os.fstat(file.fileno()))  # that is what has been opened
    except OSError:
        file.close()
        raise
    return file


def refuse_unreadable(path: Path, most: int) -> None:
    """Raise OSError, as `read_regular` would, without reading."""
    try:
        status = path.stat()
    except ValueError:
        raise OSError(errno.EINVAL, "Not a possible path") from None
    _refuse_irregular(status)
    if status.st_size > most:
        raise _too_large(most)


def _too_large(most: int) -> OSError:
    return OSError(errno.EFBIG, f"Larger than {most / 1e6:.0f} MB")


def _refuse_irregular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file")
