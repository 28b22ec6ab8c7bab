"""stdout and stderr that neither a reader who leaves (`| head`) nor an old encoding can make a command fail."""

import errno
import io
import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any, TextIO, cast

from mechdistill.errors import MechdistillError


class Patient:
    """A text stream. Once its reader has left, what is written goes nowhere, and the command does the rest of its work.

    Where it cannot be written for another reason, `MechdistillError` says so, once; of stderr nobody can say anything.
    """

    def __init__(self, stream: TextIO, name: str, *, matters: bool):
        self._stream, self._name, self._matters = stream, name, matters

    def write(self, text: str) -> int:
        """As of any stream."""
        with self._written():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As of any stream."""
        with self._written():
            self._stream.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """As of any stream."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _written(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)  # for what comes, and for what is still in the buffer
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if self._matters and error.errno != errno.EPIPE:
                raise MechdistillError(
                    f"{self._name}: cannot be written ({error.strerror}); free space, or send it elsewhere"
                ) from None


@contextmanager
def patient_streams() -> Generator[None]:
    """Inside, stdout and stderr are patient, and what their encoding lacks comes out as question marks."""
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, Patient(_lenient(sys.stdout), "stdout", matters=True))
    sys.stderr = cast(TextIO, Patient(_lenient(sys.stderr), "stderr", matters=False))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _lenient(stream: TextIO | None) -> TextIO:
    if stream is None:  # the command was started with it closed
        return io.StringIO()
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream
