"""While `train` works: a bar for each run, and Ctrl-C that stops cleanly."""

import signal
import time
from types import FrameType

from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

from mechdistill.cli._console import stderr
from mechdistill.cli._grid import short
from mechdistill.training import Outcome, Pace

_BESIDE = len(" 100 % about 999 min left ")  # what a line has besides a run's name and its bar
_SHORTEST_NAME, _SHORTEST_BAR = 10, 4
_BAR, _LONGEST_BAR = 20, 40  # what is left to a bar before names are shortened, and all that it takes


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
        if self.asked:
            before = self._before[signal.Signals(number)]
            if callable(before):  # whoever hears Ctrl-C outside of training
                before(number, stack)
            raise KeyboardInterrupt
        self.asked = True
        stderr.print("stopping: storing each run's state (Ctrl-C again to stop at once)")


class Display:
    """A bar for each run in training and one for all, with the time left; plain lines where stderr is no terminal.

    Bars are as long as a terminal's line allows; long names of runs lose their middle first.
    """

    def __init__(self, steps: dict[str, int]) -> None:
        """`steps` are those of every run that is to be trained, by its name."""
        self._steps = steps
        self._done = dict.fromkeys(steps, 0)
        self._ended: set[str] = set()
        self._first: dict[str, int] = {}  # where this session found a run
        self._tasks: dict[str, TaskID] = {}
        self._started = time.monotonic()
        self._heard: float | None = None  # when the first run got on; before that processes start, which is no pace
        room, longest = stderr.width - _BESIDE, max(map(len, (_of(0, steps), *steps)))
        self._name = max(_SHORTEST_NAME, min(longest, room - _BAR))
        self._shown = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(max(_SHORTEST_BAR, min(_LONGEST_BAR, room - self._name))),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}", markup=False),
            console=stderr,
            disable=not _draws(),
            transient=True,
        )
        self._all = self._shown.add_task(_of(0, steps), total=sum(steps.values()), rate="")

    def __enter__(self) -> "Display":
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def __call__(self, news: Pace | Outcome) -> None:
        if isinstance(news, Outcome):
            self._end(news)
        else:
            self._go_on(news)
        self._shown.update(
            self._all,
            description=_of(len(self._ended), self._steps),
            completed=sum(self._done.values()),
            rate=self._left(),
        )

    def _go_on(self, news: Pace) -> None:
        if self._heard is None:
            self._heard = time.monotonic()
        if news.run not in self._tasks:
            self._tasks[news.run] = self._shown.add_task(short(news.run, self._name), total=news.steps, rate="")
        self._first.setdefault(news.run, news.step)
        self._done[news.run] = news.step
        thousands = news.tokens_per_second / 1000
        rate = f"{thousands:.{int(thousands < 10)}f}k tokens/s"
        self._shown.update(self._tasks[news.run], completed=news.step, rate=rate)

    def _end(self, outcome: Outcome) -> None:
        if outcome.run in self._tasks:
            self._shown.remove_task(self._tasks.pop(outcome.run))
        self._ended.add(outcome.run)
        self._done[outcome.run] = self._steps.get(outcome.run, 0)
        place = f"{len(self._ended)} of {len(self._steps)}"
        left = f", {self._left()}" * bool(self._left())
        seconds = time.monotonic() - self._started
        self._shown.console.print(f"  {place}: {outcome.run} {outcome.state} at {seconds:.0f} s{left}")

    def _left(self) -> str:
        """The time left for all runs at the pace of this session; empty where there is no pace yet, or no rest."""
        rest = sum(self._steps.values()) - sum(self._done.values())
        here = sum(self._done[run] - first for run, first in self._first.items())
        if not rest or here <= 0 or self._heard is None:
            return ""
        return f"about {in_words(rest / here * (time.monotonic() - self._heard))} left"


def _draws() -> bool:
    """Whether stderr can be drawn on; a pipe that FORCE_COLOR makes a terminal of cannot."""
    return stderr.is_terminal and stderr.file.isatty() and not stderr.is_dumb_terminal


def _of(ended: int, steps: dict[str, int]) -> str:
    return f"{ended} of {len(steps)} runs"


def in_words(seconds: float) -> str:
    """A duration."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
