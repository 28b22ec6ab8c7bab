"""The commands. Nothing heavy is imported before a command runs, so that --help is instant."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from mechdistill.cli._measure import command
from mechdistill.cli._options import Directory, Json
from mechdistill.cli._runs import runs
from mechdistill.tables import MEASURES

app = typer.Typer(
    name="mechdistill",
    help="How distillation changes the circuits that a transformer forms.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(runs, name="runs")


@app.command()
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
    from mechdistill.cli._train import run_training  # torch: only once the arguments are sound

    run_training(config, out or Path("runs") / config.name, jobs, device, logger or [], dry_run, json)


for measure in MEASURES.values():
    app.command(measure.name)(command(measure))


@app.command()
def compare(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An experiment directory.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Another one: compare its arms with those of the first.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="ARM", help="The arm to compare with; default: spt.")] = None,
    formed: Annotated[
        float | None,
        typer.Option(metavar="ACCURACY", min=0, max=1, help="Copy accuracy at which the copy circuit has formed."),
    ] = None,
    json: Json = False,
) -> None:
    """What distillation changed: every arm against its baseline over seeds, with intervals."""
    from mechdistill.cli._compare import show_comparison

    show_comparison(directory, other, baseline, formed, json)


@app.command()
def sandbox(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[EXPERIMENT.yaml|DIR]", help="An experiment file, a run or an experiment directory."),
    ] = None,
    preset: Annotated[str | None, typer.Option(metavar="NAME", help="The world of a preset.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key, like sandbox.vocab=32.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where the figure goes.")] = None,
    json: Json = False,
) -> None:
    """Show a world before training in it: rows by entropy, what can be copied where, what the best guessers reach."""
    from mechdistill.cli._world import show_sandbox

    show_sandbox(source, preset, settings or [], out, json)


@app.command()
def publish(
    directory: Directory,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    checkpoints: Annotated[
        Literal["all", "last"], typer.Option(metavar="all|last", help="Which checkpoints go along.")
    ] = "all",
    license: Annotated[str | None, typer.Option(metavar="ID", help="For the model card, like mit.")] = None,
) -> None:
    """Write a finished run or experiment as a folder for others: model card, weights, metrics."""
    from mechdistill.cli._directory import publish_directory

    publish_directory(directory, folder, checkpoints, license)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this preset's file.")] = None,
) -> None:
    """List the presets, or print one as a file to start from."""
    from mechdistill.config import preset_names, preset_text

    if name is not None:
        sys.stdout.write(preset_text(name))
        return
    for known in preset_names():
        summary = [line.lstrip("# ") for line in preset_text(known).splitlines() if line.startswith("#")]
        print(f"{known:12} {' '.join(summary)}")
