"""`mechdistill train`: what it will cost, progress while it runs, a table of what came out, and what to do next."""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechdistill.cli._interrupts import INTERRUPTED
from mechdistill.cli._options import Json, known_presets
from mechdistill.errors import MechdistillError
from mechdistill.tables import ABLATE, INDUCTION_SCORES, ROW_CURVES

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid
    from mechdistill.config import ExperimentConfig
    from mechdistill.training import Cost, Outcome

# what to look at next, where there are heads and where there are none, and what each says in a few words
_ALL = {"report": "all of it on one live page"}
_OF_HEADS = {INDUCTION_SCORES.name: "which heads copy", ABLATE.name: "what is lost without them", **_ALL}
_OF_ROWS = {ROW_CURVES.name: "which rows are learned when", "compare": "arm against arm", **_ALL}


def train(
    experiment: Annotated[
        Path | None,
        typer.Argument(
            metavar="[EXPERIMENT.yaml|DIR]",
            help="Experiment file, or a directory to resume; without one, a preset.",
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A preset: see `mechdistill presets`.", autocompletion=known_presets),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, like training.lr=1e-3."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the runs go; default runs/<name of the experiment>."),
    ] = None,
    arms: Annotated[str | None, typer.Option(metavar="A,B", help="Only these arms.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0-4", help="These seeds: 0-4, or 0,2,5; crossed: init=0-2,data=0-2.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Runs at a time, one core each; default: every core."),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu, cuda, mps, or auto: a GPU if there is one.")
    ] = "cpu",
    logger: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Also log to wandb or trackio.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.")] = False,
    json: Json = False,
) -> None:
    """Train an experiment's arms, with and without distillation, and the teachers they need.

    Without arguments: the preset `quickstart` into runs/quickstart. Run the same command again to resume.
    """
    from mechdistill.cli._arguments import read_arguments
    from mechdistill.runs import EXPERIMENT

    there = _directory(experiment)
    config = read_arguments(there / EXPERIMENT if there else experiment, preset, settings or [], arms, seeds)
    _train(config, out or there or Path("runs") / config.name, jobs, device, logger or [], dry_run, json)


def _directory(experiment: Path | None) -> Path | None:
    """The experiment directory to go on with, where the argument is one, or the file that `train` wrote into one."""
    from mechdistill.runs import CONFIG, EXPERIMENT, check_directory

    if experiment is None:
        return None
    if experiment.is_dir():
        if check_directory(experiment) == "run":
            raise MechdistillError(f"{experiment}: is one run; give its experiment's directory")
        return experiment
    around = experiment.parent
    runs = (run for place in ("*/seed-*", "teachers/*/seed-*") for run in around.glob(f"{place}/{CONFIG}"))
    return around if experiment.name == EXPERIMENT and any(runs) else None


def _train(
    experiment: "ExperimentConfig",
    out: Path,
    jobs: int | None,
    device: str,
    loggers: list[str],
    dry_run: bool,
    as_json: bool,
) -> None:
    """Say what it costs, train, print what came out; exits 1 if a run failed, 130 if interrupted."""
    import pandas as pd

    from mechdistill import training  # torch: only once the arguments are sound
    from mechdistill.analysis import progress
    from mechdistill.cli._checks import check_tables, stops
    from mechdistill.cli._console import show, stderr
    from mechdistill.cli._print import print_json
    from mechdistill.cli._progress import Display, Stopper
    from mechdistill.config import expand
    from mechdistill.runs import Experiment, as_argument

    device = training.available_device(device)
    todo = training.plan(experiment, out).todo
    jobs = min(jobs or os.cpu_count() or 1, max(len(todo), 1))
    with progress("what it will cost"):
        cost = training.estimate(experiment, todo, jobs, device)
    finished = len(expand(experiment)) - len(todo)
    stderr.print(f"{out}: {_in_words(cost, jobs)}" + f"; {finished} runs are finished" * bool(finished))
    for remark in experiment.remarks():
        stderr.print(f"note: {remark}")
    if dry_run:
        if as_json:
            print_json(pd.DataFrame([cost._asdict()]))
        return
    steps = {str(run.path): run.steps for run in todo}
    # what a user's definition prints is no result
    with Stopper() as stopper, Display(steps) as display, redirect_stdout(sys.stderr):
        outcomes = training.train(
            experiment,
            out,
            jobs=jobs,
            device=device,
            loggers=loggers,
            report=display,
            stopped=lambda: stopper.asked,
        )
    checks = training.checks(Experiment(out))
    results = _results(out, experiment, outcomes, checks)
    print_json(results) if as_json else show([_summary(results), *check_tables(checks)])
    for line in stops(results):
        stderr.print(line)
    for outcome in outcomes:
        if outcome.message and not (stopper.asked and outcome.state == "waiting"):
            stderr.print(f"{outcome.run}: {outcome.state}: {outcome.message}")
    states = {outcome.state for outcome in outcomes}
    if stopper.asked:
        if states != {"finished"}:
            stderr.print("run the same command again to resume where it stopped")
        raise typer.Exit(INTERRUPTED)
    if states - {"finished"}:
        raise typer.Exit(1)
    has_heads = any(run.model.has_heads for run in expand(experiment))
    for line in _what_next(as_argument(out), _OF_HEADS if has_heads else _OF_ROWS):
        stderr.print(line)


def _what_next(out: str, commands: dict[str, str]) -> list[str]:
    """A line for each command: what it is, and what it answers."""
    lines = [f"mechdistill {command} {out}" for command in commands]
    width = max(map(len, lines))
    margins = ["next: ", *[" " * len("next: ")] * (len(lines) - 1)]
    return [
        f"{margin}{line:{width}}  {answer}"
        for margin, line, answer in zip(margins, lines, commands.values(), strict=True)
    ]


def _in_words(cost: "Cost", jobs: int) -> str:
    from mechdistill.cli._progress import in_words

    if not cost.runs:
        return "nothing left to train"
    return (
        f"{cost.runs} runs to train, {cost.tokens / 1e6:.1f} M tokens, about {in_words(cost.seconds)} at {jobs} at a "
        f"time, {cost.bytes / 1e6:.0f} MB of checkpoints"
    )


def _results(
    out: Path, experiment: "ExperimentConfig", outcomes: "list[Outcome]", checks: "pd.DataFrame"
) -> "pd.DataFrame":
    from mechdistill.cli._checks import about_teaching
    from mechdistill.cli._console import stderr
    from mechdistill.config import expand
    from mechdistill.runs import Run
    from mechdistill.tables import TRAINED, frame, headline

    states = {outcome.run: outcome.state for outcome in outcomes}
    rows: list[dict[str, Any]] = []
    for config in sorted(expand(experiment), key=lambda config: config.is_teacher):
        name, path = str(config.path), out / config.path
        row: dict[str, Any] = {"run": name, "arm": config.treatment, "seed": config.seed, "path": str(path)}
        row["state"] = states[name]
        try:
            if (path / "status.json").exists():
                run = Run(path)
                log = run.metrics()
                row |= {key: run.status[key] for key in ("step", "tokens", "seconds")}
                row |= headline(log) | about_teaching(run, log, checks) if run.steps else {}
        except MechdistillError as error:  # what came of the others, and why runs failed, is told all the same
            stderr.print(str(error))
        rows.append(row)
    return frame(TRAINED, rows)


def _summary(results: "pd.DataFrame") -> "Grid":
    import pandas as pd

    from mechdistill.cli._grid import table
    from mechdistill.cli._print import number
    from mechdistill.tables import HEADLINES

    columns = ["run", "state", "tokens", *(headline.heading for headline in HEADLINES), "s"]
    rows = [
        [
            row["run"],
            row["state"],
            "-" if pd.isna(row["tokens"]) else f"{row['tokens'] / 1e6:.2f} M",
            *(number(row[headline.name], headline.digits) for headline in HEADLINES),
            number(row["seconds"], 0),
        ]
        for row in results.to_dict("records")
    ]
    drop = ("s", "tokens", HEADLINES[1].heading)
    return table("Held-out sequences at the last evaluation", columns, rows, right=2, drop=drop)
