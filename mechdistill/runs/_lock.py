"""One writer an experiment.

The kernel's file lock decides (it goes with its process, however that dies); a heartbeat beside it says who holds it,
and stands in for the lock where the other writer sits on another machine.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mechdistill.errors import MechdistillError
from mechdistill.runs._files import write_json

_BEAT = 5.0  # seconds between heartbeats
_STALE = 60.0  # seconds after which a foreign machine's heartbeat counts as dead


@contextmanager
def exclusive(experiment: Path) -> Generator[None]:
    """Hold the experiment for writing; raises `MechdistillError` naming the owner if somebody else does."""
    owner_file = experiment / ".lock.json"
    lock = FileLock(experiment / ".lock", blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise MechdistillError(
            f"{experiment}: in use by {_owner(owner_file)}; wait for it, stop it, or choose another --out"
        ) from None
    except OSError as error:
        raise MechdistillError(f"{experiment}: cannot be written ({error.strerror}); choose another --out") from None
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
            with suppress(OSError):  # its own failure must not hide the one that matters
                owner_file.unlink()
    finally:
        lock.release()


def is_held(experiment: Path) -> bool:
    """Whether somebody is writing the experiment: the owner that its lock names lives and has been heard of lately."""
    owner = _read_owner(experiment / ".lock.json")
    if owner is None:
        return False
    pid, heartbeat = owner.get("pid"), owner.get("heartbeat")
    if owner.get("host") == platform.node() and isinstance(pid, int) and not _lives(pid):
        return False
    return isinstance(heartbeat, float) and time.time() - heartbeat < _STALE


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's process
        return True
    return True


def _write_owner(path: Path) -> None:
    write_json(path, {"host": platform.node(), "pid": os.getpid(), "heartbeat": time.time()})


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(_BEAT):
        with suppress(MechdistillError):  # a full disk shows where something that matters is written
            _write_owner(path)


def _read_owner(path: Path) -> dict[str, object] | None:
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):  # absent or half-written: then only the kernel's lock counts
        return None
    return owner if isinstance(owner, dict) else None


def _owner(path: Path) -> str:
    owner = _read_owner(path)
    return f"process {owner.get('pid')} on {owner.get('host')}" if owner else "another process"


def _refuse_foreign_owner(experiment: Path, path: Path) -> None:
    owner = _read_owner(path)
    if owner is None or owner.get("host") == platform.node():
        return
    heartbeat = owner.get("heartbeat")
    age = time.time() - heartbeat if isinstance(heartbeat, float) else _STALE
    if age < _STALE:
        raise MechdistillError(
            f"{experiment}: in use by {_owner(path)} ({age:.0f} s ago); wait for it, stop it, or choose another --out"
        )
