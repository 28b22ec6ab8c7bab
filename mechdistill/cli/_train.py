"""`mechdistill train`: progress while it runs, a table of what came out, and what to do next."""

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mechdistill.cli._print import number, print_json, stderr, stdout, table
from mechdistill.config import ExperimentConfig, expand
from mechdistill.errors import MechdistillError
from mechdistill.runs import Run
from mechdistill.tables import HEADLINES, MEASURES, TRAINED, frame, headline
from mechdistill.training import Cost, Outcome, Pace, estimate, plan, train


def run_training(
    experiment: ExperimentConfig,
    out: Path,
    jobs: int | None,
    device: str,
    loggers: list[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Say what it costs, train, print what came out; exits 1 if a run failed, 130 if interrupted."""
    device = _device(device)
    todo = plan(experiment, out).todo
    jobs = min(jobs or os.cpu_count() or 1, max(len(todo), 1))
    cost = estimate(experiment, todo, jobs, device)
    finished = len(expand(experiment)) - len(todo)
    stderr.print(f"{out}: {_in_words(cost, jobs)}" + f"; {finished} runs are finished" * bool(finished))
    if dry_run:
        if as_json:
            print_json(pd.DataFrame([cost._asdict()]))
        return
    with _Stopper() as stopper, _Display(experiment) as display:
        outcomes = train(
            experiment,
            out,
            jobs=jobs,
            device=device,
            loggers=loggers,
            report=display,
            stopped=lambda: stopper.asked,
        )
    results = _results(out, experiment, outcomes)
    print_json(results) if as_json else stdout().print(_summary(results))
    for outcome in outcomes:
        if outcome.message and not (stopper.asked and outcome.state == "waiting"):
            stderr.print(f"{outcome.run}: {outcome.state}: {outcome.message}")
    states = {outcome.state for outcome in outcomes}
    if stopper.asked and states != {"finished"}:
        stderr.print("interrupted; run the same command again to resume where it stopped")
        sys.exit(130)
    if states - {"finished"}:
        sys.exit(1)
    first, *then = MEASURES
    stderr.print(f"next: mechdistill {first} {out}    (then {', '.join(then)})")


def _in_words(cost: Cost, jobs: int) -> str:
    if not cost.runs:
        return "nothing left to train"
    time = f"{cost.seconds:.0f} s" if cost.seconds < 100 else f"{cost.seconds / 60:.0f} min"
    return (
        f"{cost.runs} runs to train, {cost.tokens / 1e6:.1f} M tokens, about {time} at {jobs} at a time, "
        f"{cost.bytes / 1e6:.0f} MB of checkpoints"
    )


def _device(name: str) -> str:
    import torch

    available = ["cpu"]
    available += ["cuda"] if torch.cuda.is_available() else []
    available += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return available[-1] if len(available) == 2 else available[0]
    if name not in available:
        raise MechdistillError(f"--device {name}: not on this machine; there are: {', '.join(available)}, auto")
    return name


class _Stopper:
    """Ctrl-C (or SIGTERM) asks the runs to stop and store their state; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> "_Stopper":
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


class _Display:
    """A bar for each run that is training, with tokens/s and time left; plain lines where stderr is no terminal."""

    def __init__(self, experiment: ExperimentConfig):
        self._tokens = {str(run.path): run.training.batch * run.sandbox.seq_len for run in expand(experiment)}
        self._bars: dict[str, TaskID] = {}
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            console=stderr,
            disable=not stderr.is_terminal,
            transient=True,
        )

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, news: Pace | Outcome) -> None:
        if isinstance(news, Outcome):
            self._end(news)
            return
        if news.run not in self._bars:
            self._bars[news.run] = self._progress.add_task(news.run, total=news.steps, rate="")
        rate = f"{news.tokens_per_second / 1000:.0f}k tokens/s"
        self._progress.update(self._bars[news.run], completed=news.step, rate=rate)

    def _end(self, outcome: Outcome) -> None:
        if outcome.run in self._bars:
            self._progress.remove_task(self._bars.pop(outcome.run))
        self._progress.console.print(f"  {outcome.run}: {outcome.state} at {time.monotonic() - self._started:.0f} s")


def _results(out: Path, experiment: ExperimentConfig, outcomes: list[Outcome]) -> pd.DataFrame:
    states = {outcome.run: outcome.state for outcome in outcomes}
    rows: list[dict[str, Any]] = []
    for config in expand(experiment):
        name, path = str(config.path), out / config.path
        row: dict[str, Any] = {"run": name, "arm": config.arm, "seed": config.seed, "path": str(path)}
        row["state"] = states[name]
        if (path / "status.json").exists():
            run = Run(path)
            row |= {key: run.status[key] for key in ("step", "tokens", "seconds")} | headline(run.metrics())
        rows.append(row)
    return frame(TRAINED, sorted(rows, key=lambda row: row["arm"].startswith("teacher:")))


def _summary(results: pd.DataFrame) -> Any:
    columns = [
        "run",
        "state",
        "tokens",
        *(headline.title for headline in HEADLINES),
        "s",
    ]
    rows = [
        [
            row["run"],
            row["state"],
            "-" if pd.isna(row["tokens"]) else f"{row['tokens'] / 1e6:.2f} M",
            *(number(row[headline.column], headline.digits) for headline in HEADLINES),
            number(row["seconds"], 0),
        ]
        for row in results.to_dict("records")
    ]
    return table("Held-out sequences at the last evaluation", columns, rows, right=2)
