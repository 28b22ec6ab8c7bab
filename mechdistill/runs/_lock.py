"""One writer an experiment.

The kernel's file lock decides (it goes with its process, however that dies); a heartbeat beside it says who holds it,
and stands in for the lock where the other writer sits on another machine. Clocks of two machines may differ by any
amount, so that a heartbeat that does not look fresh is watched: who writes another one is alive.
"""

import os
import platform
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mechdistill.errors import MechdistillError, visible
from mechdistill.runs._files import is_alive, read_bytes, refuse_irregular, refuse_link, write_json

_BEAT = 5.0  # seconds between heartbeats
_FRESH = 60.0  # seconds during which a foreign machine's heartbeat is believed
_RECORD_BYTES = 2**12


class _Owner(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    host: str = Field(max_length=255)
    pid: int = Field(ge=0, lt=2**63)
    heartbeat: float  # seconds since 1970 on that machine's clock

    def __str__(self) -> str:
        return f"process {self.pid} on {visible(self.host)}"


@contextmanager
def exclusive(experiment: Path) -> Generator[None]:
    """Hold the experiment for writing; raises `MechdistillError` naming the owner if somebody else does."""
    owner_file, lock_file = experiment / ".lock.json", experiment / ".lock"
    refuse_link(lock_file)
    refuse_irregular(lock_file)
    lock = FileLock(lock_file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise _in_use(experiment, str(_read_owner(owner_file) or "another process")) from None
    except OSError as error:
        raise MechdistillError(
            f"{experiment}: cannot be written ({error.strerror}); choose another directory"
        ) from None
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(owner_file, stop), daemon=True)
    try:
        _refuse_foreign_owner(experiment, owner_file)
        _write_owner(owner_file)
        beat.start()
        try:
            yield
        finally:
            stop.set()
            beat.join()
            with suppress(OSError):  # what ended the work counts, and the next owner replaces it
                owner_file.unlink(missing_ok=True)
    finally:
        lock.release()


def is_held(experiment: Path) -> bool:
    """Whether somebody is writing the experiment: the owner that its lock names lives and has been heard of lately."""
    owner = _read_owner(experiment / ".lock.json")
    if owner is None or (owner.host == platform.node() and not is_alive(owner.pid)):
        return False
    return abs(time.time() - owner.heartbeat) < _FRESH


def _write_owner(path: Path) -> None:
    write_json(path, {"host": platform.node(), "pid": os.getpid(), "heartbeat": time.time()})


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        with suppress(MechdistillError):  # a full disk shows where something that matters is written
            _write_owner(path)


def _read_owner(path: Path) -> _Owner | None:
    """Who says to hold it; None where the record is absent or damaged: then only the kernel's lock counts."""
    try:
        return _Owner.model_validate_json(read_bytes(path, _RECORD_BYTES))
    except (MechdistillError, ValidationError):
        return None


def _refuse_foreign_owner(experiment: Path, path: Path) -> None:
    owner = _read_owner(path)
    if owner is None or owner.host == platform.node():
        return
    age = time.time() - owner.heartbeat
    if 0 <= age < _FRESH:
        raise _in_use(experiment, f"{owner} ({age:.0f} s ago)")
    time.sleep(1.5 * _BEAT)
    if _read_owner(path) not in (None, owner):
        raise _in_use(experiment, f"{owner} (now; its clock differs from this machine's)")


def _in_use(experiment: Path, owner: str) -> MechdistillError:
    return MechdistillError(f"{experiment}: in use by {owner}; wait for it, stop it, or choose another directory")
