"""`mechdistill train`: what it will cost, progress while it runs, a table of what came out, and what to do next."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechdistill.cli._options import Json
from mechdistill.errors import MechdistillError
from mechdistill.tables import MEASURES

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from mechdistill.config import ExperimentConfig
    from mechdistill.training import Cost, Outcome


def train(
    experiment: Annotated[
        Path | None,
        typer.Argument(metavar="[EXPERIMENT.yaml]", help="Experiment file; without one, a preset."),
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="A preset: see `mechdistill presets`.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, like training.lr=1e-3."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the runs go; default runs/<name of the experiment>."),
    ] = None,
    arms: Annotated[str | None, typer.Option(metavar="A,B", help="Only these arms.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0-4", help="These seeds: 0-4, or 0,2,5.")] = None,
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

    config = read_arguments(experiment, preset, settings or [], arms, seeds)
    _train(config, out or Path("runs") / config.name, jobs, device, logger or [], dry_run, json)


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
    from mechdistill.cli._checks import check_tables, stops
    from mechdistill.cli._print import print_json, stderr, stdout
    from mechdistill.cli._progress import Display, Stopper
    from mechdistill.config import expand
    from mechdistill.runs import Experiment

    device = training.available_device(device)
    todo = training.plan(experiment, out).todo
    jobs = min(jobs or os.cpu_count() or 1, max(len(todo), 1))
    cost = training.estimate(experiment, todo, jobs, device)
    finished = len(expand(experiment)) - len(todo)
    stderr.print(f"{out}: {_in_words(cost, jobs)}" + f"; {finished} runs are finished" * bool(finished))
    for remark in experiment.remarks():
        stderr.print(f"note: {remark}")
    if dry_run:
        if as_json:
            print_json(pd.DataFrame([cost._asdict()]))
        return
    with Stopper() as stopper, Display() as display:
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
    if as_json:
        print_json(results)
    else:
        for table in (_summary(results), *check_tables(checks)):
            stdout().print(table)
    for line in stops(results):
        stderr.print(line)
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


def _in_words(cost: "Cost", jobs: int) -> str:
    if not cost.runs:
        return "nothing left to train"
    time = f"{cost.seconds:.0f} s" if cost.seconds < 100 else f"{cost.seconds / 60:.0f} min"
    return (
        f"{cost.runs} runs to train, {cost.tokens / 1e6:.1f} M tokens, about {time} at {jobs} at a time, "
        f"{cost.bytes / 1e6:.0f} MB of checkpoints"
    )


def _results(
    out: Path, experiment: "ExperimentConfig", outcomes: "list[Outcome]", checks: "pd.DataFrame"
) -> "pd.DataFrame":
    from mechdistill.cli._checks import about_teaching
    from mechdistill.cli._print import stderr
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


def _summary(results: "pd.DataFrame") -> "Table":
    import pandas as pd

    from mechdistill.cli._print import number, table
    from mechdistill.tables import HEADLINES

    columns = ["run", "state", "tokens", *(headline.heading for headline in HEADLINES), "s"]
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
