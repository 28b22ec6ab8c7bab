"""Running many runs on this machine: a process each, one torch thread a process, teachers before students.

The same code trains a run here whatever the number of jobs, so neither it nor the order changes any bits.
"""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mechdistill import teachers
from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import Run, RunWriter, write_text
from mechdistill.sandbox import Sandbox
from mechdistill.training._loop import Interrupted, Progress, Trainer


@dataclass(frozen=True)
class Outcome:
    """How a run ended: finished, failed (with one line why), interrupted, or waiting: never started."""

    run: str
    state: str
    message: str | None = None


Report = Callable[[Progress | Outcome], None]


@contextmanager
def one_thread() -> Generator[None]:
    """One torch thread inside: bit-exactness is promised for that."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train_one(root: Path, config: RunConfig, device: str, report: Report, stopped: Callable[[], bool]) -> Outcome:
    """Train one run to its end; a failure becomes its status and its `error.log`, not an exception."""
    writer = RunWriter(root, config)
    name = str(config.path)
    try:
        with one_thread():
            Trainer(config, writer, _teacher(root, config), device).until_done(report, stopped)
    except Interrupted:
        return Outcome(name, "interrupted")
    except MechdistillError as error:
        message = str(error)
    except Exception as error:
        message = f"{type(error).__name__}: {error} (see {writer.path / 'error.log'})"
        with suppress(MechdistillError):  # the disk may be what failed; the message goes on in any case
            write_text(writer.path / "error.log", traceback.format_exc())
    else:
        return Outcome(name, "finished")
    with suppress(MechdistillError):
        done: dict[str, Any] = {"step": 0, "tokens": 0, "seconds": 0.0, **writer.status}
        writer.set_status("failed", step=done["step"], tokens=done["tokens"], seconds=done["seconds"], message=message)
    return Outcome(name, "failed", message)


def _teacher(root: Path, config: RunConfig) -> teachers.Teacher | None:
    if config.teacher is None:
        return None
    trained = Run(root / config.teacher_path).model() if config.teacher_path else None
    return teachers.build(config.teacher, Sandbox(config.sandbox), trained)


def train_all(
    root: Path, configs: list[RunConfig], jobs: int, device: str, report: Report, stopped: Callable[[], bool]
) -> list[Outcome]:
    """Train runs whose teachers are finished or among them, at most `jobs` at a time; one failing stops no other."""
    if jobs == 1:
        return _one_by_one(root, configs, device, report, stopped)
    return _in_processes(root, configs, jobs, device, report, stopped)


def _one_by_one(
    root: Path, configs: list[RunConfig], device: str, report: Report, stopped: Callable[[], bool]
) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for config in configs:
        if stopped():
            outcome = Outcome(str(config.path), "waiting")
        else:
            outcome = _blocked(config, outcomes) or train_one(root, config, device, report, stopped)
        outcomes[outcome.run] = outcome
        report(outcome)
    return list(outcomes.values())


def _blocked(config: RunConfig, outcomes: dict[str, Outcome]) -> Outcome | None:
    """The outcome of a run whose teacher has not finished, or None where it can start."""
    teacher = outcomes.get(str(config.teacher_path))
    if teacher is None or teacher.state == "finished":
        return None
    return Outcome(str(config.path), "waiting", f"its teacher {teacher.run} is {teacher.state}")


_messages: Any = None  # in a worker: where its progress goes
_stop: Any = None  # in a worker: set when it shall stop


def _start_worker(messages: Any, stop: Any) -> None:
    global _messages, _stop
    _messages, _stop = messages, stop
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A worker that outlived its parent would write beside whoever takes the lock next."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _no_sigint() -> Generator[None]:
    """Processes started inside never hear Ctrl-C: the parent does, and sets `stop`."""
    if threading.current_thread() is not threading.main_thread():  # there signals cannot be set, nor do they arrive
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(root: Path, config: RunConfig, device: str) -> Outcome:
    return train_one(root, config, device, _messages.put, _stop.is_set)


def _in_processes(
    root: Path,
    configs: list[RunConfig],
    jobs: int,
    device: str,
    report: Report,
    stopped: Callable[[], bool],
) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")  # forking a process that has run torch is not safe
    messages, stop = context.Queue(), context.Event()
    waiting, outcomes = list(configs), dict[str, Outcome]()
    running: dict[Future[Outcome], RunConfig] = {}

    def ended(outcome: Outcome) -> None:
        outcomes[outcome.run] = outcome
        report(outcome)

    with ProcessPoolExecutor(
        min(jobs, len(configs)), mp_context=context, initializer=_start_worker, initargs=(messages, stop)
    ) as pool:
        try:
            while waiting or running:
                if stopped():
                    stop.set()
                for config in list(waiting):
                    blocked = _blocked(config, outcomes)
                    pending = {str(other.path) for other in (*waiting, *running.values())}
                    if stop.is_set():
                        waiting.remove(config)
                        ended(Outcome(str(config.path), "waiting"))
                    elif blocked:
                        waiting.remove(config)
                        ended(blocked)
                    elif str(config.teacher_path) not in pending and len(running) < jobs:
                        waiting.remove(config)
                        with _no_sigint():
                            future = pool.submit(_work, root, config, device)
                        running[future] = config
                done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                for message in _drain(messages):
                    report(message)
                for future in done:
                    config = running.pop(future)
                    try:
                        ended(future.result())
                    except BrokenProcessPool:
                        reason = "its process was killed (out of memory?); rerun the same command to resume"
                        ended(Outcome(str(config.path), "failed", reason))
                        stop.set()  # a broken pool takes no more work
        finally:
            stop.set()  # whatever ended the loop, no worker trains on
    return [outcomes[str(config.path)] for config in configs]


def _drain(messages: Any) -> Iterator[Progress]:
    while True:
        try:
            yield messages.get_nowait()
        except queue.Empty:
            return
