"""Running many runs on this machine: a process each, one torch thread a process, teachers before students.

The same code trains a run here whatever the number of jobs, so neither it nor the order changes any bits.
"""

import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any

from mechdistill.ambient import neutral, patient
from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.plugins import plugin
from mechdistill.runs import RunWriter, write_text
from mechdistill.training._hooks import Pace
from mechdistill.training._loggers import Logger, logger
from mechdistill.training._loop import Interrupted, train_run
from mechdistill.training._references import trained_model
from mechdistill.training._start import starting_point
from mechdistill.training._trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """How a run ended: finished, failed (with one line why), interrupted, or waiting: never started."""

    run: str
    state: str
    message: str | None = None


@dataclass(frozen=True)
class Settings:
    """How runs are trained, as far as it changes none of their numbers but those of another device."""

    jobs: int = 1  # runs at a time
    device: str = "cpu"
    loggers: tuple[str, ...] = ()  # names, where metrics go besides the run directory
    plugins: tuple[str, ...] = ()  # the user's files, which other processes have to load too


_LONGEST = 300  # characters of a foreign error in a message

Listener = Callable[[Pace | Outcome], None]
"""Who hears how far runs are and how they end."""


def train_one(
    root: Path, config: RunConfig, settings: Settings, tell: Listener, stopped: Callable[[], bool]
) -> Outcome:
    """Train one run to its end; a failure becomes its status and its `error.log`, not an exception."""
    loggers = [logger(name) for name in settings.loggers]
    for each in loggers:
        each.start(config)
    outcome = _trained(root, config, settings.device, loggers, tell, stopped)
    for each in loggers:
        each.finish(outcome.state)
    return outcome


def _trained(
    root: Path, config: RunConfig, device: str, loggers: list[Logger], tell: Listener, stopped: Callable[[], bool]
) -> Outcome:
    writer = RunWriter(root, config)
    name = str(config.path)
    try:
        with neutral(), patient():
            trained = partial(trained_model, root, config)
            start = starting_point(root, config)
            train_run(Trainer(config, writer, device, trained, start=start, loggers=loggers), tell, stopped)
    except Interrupted:
        return Outcome(name, "interrupted")
    except MechdistillError as error:
        message = str(error)
    except Exception as error:
        what = " ".join(str(error).split())[:_LONGEST]
        message = f"{type(error).__name__}: {what} (see {writer.path / 'error.log'})"
        with suppress(MechdistillError):  # the disk may be what failed; the message goes on in any case
            write_text(writer.path / "error.log", traceback.format_exc())
    else:
        return Outcome(name, "finished")
    with suppress(MechdistillError):
        writer.fail(message)
    return Outcome(name, "failed", message)


def train_all(
    root: Path, configs: list[RunConfig], settings: Settings, tell: Listener, stopped: Callable[[], bool]
) -> list[Outcome]:
    """Train runs whose teachers are finished or among them, some at a time; one failing stops no other."""
    engine = _one_by_one if settings.jobs == 1 else _in_processes
    return engine(root, configs, settings, tell, stopped)


def _one_by_one(
    root: Path, configs: list[RunConfig], settings: Settings, tell: Listener, stopped: Callable[[], bool]
) -> list[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for config in configs:
        if stopped():
            outcome = Outcome(str(config.path), "waiting")
        else:
            outcome = _blocked(config, outcomes) or train_one(root, config, settings, tell, stopped)
        outcomes[outcome.run] = outcome
        tell(outcome)
    return list(outcomes.values())


def _blocked(config: RunConfig, outcomes: dict[str, Outcome]) -> Outcome | None:
    """The outcome of a run that needs one which has ended unfinished, or None where nothing is in its way."""
    for path in config.needs:
        needed = outcomes.get(str(path))
        if needed is not None and needed.state != "finished":
            return Outcome(str(config.path), "waiting", f"it needs {needed.run}, which is {needed.state}")
    return None


_messages: Any = None  # in a worker: where its progress goes
_stop: Any = None  # in a worker: set when it shall stop


def _start_worker(messages: Any, stop: Any, plugins: tuple[str, ...]) -> None:
    global _messages, _stop
    sys.stdout = sys.stderr  # what is printed here, by a user's definition or a library, is no result
    for file in plugins:  # before any config arrives that only they can read
        plugin(file)
    _messages, _stop = messages, stop
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A worker that outlived its parent would write beside whoever takes the lock next."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _no_main() -> Generator[None]:
    """Processes started inside do not run the caller's script anew.

    They would, to find there what is sent to them; we send nothing of it, and a script without a guard against
    `__name__ == "__main__"` would train once more in every one of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _no_sigint() -> Generator[None]:
    """Processes started inside never hear Ctrl-C: the parent does, and sets `stop`.

    A terminal sends it to all of them at once; one that it hits in the middle of a write could not store its state.
    """
    if threading.current_thread() is not threading.main_thread():  # there signals cannot be set, nor do they arrive
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(root: Path, config: dict[str, Any], settings: Settings) -> Outcome:
    return train_one(root, RunConfig.model_validate(config), settings, _messages.put, _stop.is_set)


def _in_processes(
    root: Path, configs: list[RunConfig], settings: Settings, tell: Listener, stopped: Callable[[], bool]
) -> list[Outcome]:
    # spawn, since a forked child inherits the locks of torch's threads without the threads that would release them
    context = multiprocessing.get_context("spawn")
    messages, stop = context.Queue(), context.Event()
    waiting, outcomes = list(configs), dict[str, Outcome]()
    # The pool is never given more than it can start: what is submitted cannot be withdrawn, and a run whose teacher
    # is still training would hold a process that waits. So a run is submitted when all that it `needs` is finished,
    # and the teachers' students wait here, in the order of the experiment.
    running: dict[Future[Outcome], RunConfig] = {}
    workers: set[BaseProcess] = set()

    def ended(outcome: Outcome) -> None:
        outcomes[outcome.run] = outcome
        tell(outcome)

    with ProcessPoolExecutor(
        min(settings.jobs, len(configs)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(messages, stop, settings.plugins),
    ) as pool:
        try:
            while waiting or running:
                if stopped():
                    stop.set()
                unfinished = {str(config.path) for config in (*waiting, *running.values())}
                for config in list(waiting):
                    blocked = _blocked(config, outcomes)
                    if stop.is_set():
                        waiting.remove(config)
                        ended(Outcome(str(config.path), "waiting"))
                    elif blocked:
                        waiting.remove(config)
                        ended(blocked)
                    elif len(running) < settings.jobs and unfinished.isdisjoint(map(str, config.needs)):
                        waiting.remove(config)
                        others = set(multiprocessing.active_children()) - workers
                        with _no_sigint(), _no_main():  # the pool starts its processes when it is given work
                            future = pool.submit(_work, root, config.model_dump(mode="json"), settings)
                        workers.update(set(multiprocessing.active_children()) - others)
                        running[future] = config
                done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                for message in _drain(messages):
                    tell(message)
                for future in done:
                    config = running.pop(future)
                    try:
                        ended(future.result())
                    except BrokenProcessPool:
                        # one killed process breaks the pool: every run in it ends here, and it takes no more work
                        ended(Outcome(str(config.path), "failed", _why_broken(workers)))
                        stop.set()
        finally:
            stop.set()  # whatever ended the loop, no worker trains on
    return [outcomes[str(config.path)] for config in configs]


def _why_broken(workers: set[BaseProcess]) -> str:
    """Why a pool is broken: what its first process to end ended with. The pool ends the others by SIGTERM."""
    codes = [code for worker in workers if (code := worker.exitcode)]
    code = next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM if codes else 0)
    if code < 0:
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        how = f"was killed by {signal.Signals(-code).name}{hint}"
    else:
        how = f"ended by itself (exit code {code}; its own words are above)"
    return f"its process {how}; rerun the same command to resume"


def _drain(messages: Any) -> Iterator[Pace]:
    while True:
        try:
            yield messages.get_nowait()
        except queue.Empty:
            return
