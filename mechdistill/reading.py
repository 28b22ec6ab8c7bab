"""Reading files that somebody names: never one that does not end, never more than fits."""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, most: int) -> bytes:
    """A file's content, at most `most` bytes of it.

    Raises OSError, with `strerror` for a message, for what is no regular file (a pipe or a device may never end, and
    opening one may already wait), for a path that there cannot be, and for a larger file.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        with os.fdopen(
            os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb"
        ) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "Not a regular file")
            data = file.read(most + 1)
    except ValueError:  # a zero byte, or a half of a character
        raise OSError(errno.EINVAL, "Not a possible path") from None
    if len(data) > most:
        raise OSError(errno.EFBIG, f"Larger than {most / 1e6:.0f} MB")
    return data
