"""While `train` works: a bar for each run, and Ctrl-C that stops cleanly."""

import signal
import time
from types import FrameType

from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from mechdistill.cli._print import stderr
from mechdistill.training import Outcome, Pace


class Stopper:
    """Ctrl-C (or SIGTERM) asks the runs to stop and store their state; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "Stopper":
        self._before = {sign: signal.signal(sign, self._ask) for sign in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for sign, handler in self._before.items():
            signal.signal(sign, handler)

    def _ask(self, number: int, stack: FrameType | None) -> None:
        del number, stack
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        stderr.print("stopping: storing each run's state (Ctrl-C again to stop at once)")


class Display:
    """A bar for each run that is training, with tokens/s and time left; plain lines where stderr is no terminal."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._started = time.monotonic()
        self._shown = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=stderr,
            disable=not stderr.is_terminal,
            transient=True,
        )

    def __enter__(self) -> "Display":
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def __call__(self, news: Pace | Outcome) -> None:
        if isinstance(news, Outcome):
            self._end(news)
            return
        if news.run not in self._tasks:
            self._tasks[news.run] = self._shown.add_task(news.run, total=news.steps, rate="")
        rate = f"{news.tokens_per_second / 1000:.0f}k tokens/s"
        self._shown.update(self._tasks[news.run], completed=news.step, rate=rate)

    def _end(self, outcome: Outcome) -> None:
        if outcome.run in self._tasks:
            self._shown.remove_task(self._tasks.pop(outcome.run))
        self._shown.console.print(f"  {outcome.run}: {outcome.state} at {time.monotonic() - self._started:.0f} s")
