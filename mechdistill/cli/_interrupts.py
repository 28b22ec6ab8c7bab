"""Ctrl-C at any moment of a command: one line, and 130.

Training has its own way to stop (`Stopper`), which stores the state of every run first; this is for everything else,
and for those who press again. It is in place before anything heavy is imported.
"""

import atexit
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130
_LINE = "mechdistill: interrupted\n"
_SHELLS = {"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"}


class Interrupts:
    """From `watch` on, the first Ctrl-C unwinds what runs, so that it cleans up; a second leaves at once."""

    def __init__(self) -> None:
        self.asked = False
        self.over = False

    def watch(self) -> None:
        """Hear Ctrl-C from now on, to the end of the process."""
        signal.signal(signal.SIGINT, self.hear)
        sys.unraisablehook = self._unraisable
        # when all is done and said Python takes itself apart, deaf to our handler: then Ctrl-C comes too late
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A Ctrl-C. In the middle of an import nothing can be half-written, and a half-made module can hide it."""
        del number
        if self.asked or self.over or _imports(frame):
            self._leave_at_once()
        self.asked = True
        raise KeyboardInterrupt

    def leave(self) -> NoReturn:
        """Say so and end, everything being unwound."""
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        with suppress(OSError):
            sys.stderr.write(_LINE)
            sys.stderr.flush()
        _die_as_shells_expect()
        sys.exit(INTERRUPTED)

    def _leave_at_once(self) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with suppress(OSError):
            cursor = "\r\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
            os.write(2, (cursor + _LINE).encode())
        _die_as_shells_expect()
        os._exit(INTERRUPTED)

    def _unraisable(self, what: Any) -> None:
        """Where Python can only drop an exception, like in a destructor, Ctrl-C must not be what it drops."""
        if issubclass(what.exc_type, KeyboardInterrupt):
            self._leave_at_once()
        sys.__unraisablehook__(what)


def _imports(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _die_as_shells_expect() -> None:
    """Under a shell, die of the signal: one that runs a script goes on after a command that merely ends with 130.

    Its `$?` is 130 all the same.
    """
    from pathlib import Path  # at the start every millisecond counts

    try:
        shell = Path(f"/proc/{os.getppid()}/comm").read_text().strip().lstrip("-") in _SHELLS
    except OSError:  # not on Linux
        shell = False
    if shell:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
