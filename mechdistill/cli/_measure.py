"""The commands of measures, generated from their records: a table on stdout, a figure in the directory, or JSON."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from mechdistill.cli._options import Directory, FigureFile, Fresh, Json, NoFigure, TableFile, Width
from mechdistill.cli._present import Output, present
from mechdistill.tables import Measure


def command(measure: Measure) -> Callable[..., None]:
    """The command of a measure."""

    def measured(
        directory: Directory,
        checkpoint: Annotated[
            str, typer.Option(metavar="last|all|STEP", help="Which checkpoints.")
        ] = measure.checkpoint,
        json: Json = False,
        figure: FigureFile = None,
        no_figure: NoFigure = False,
        width: Width = None,
        table: TableFile = None,
        no_cache: Fresh = False,
    ) -> None:
        _show(measure, directory, checkpoint, Output(json, figure, no_figure, width, table).check(), no_cache)

    measured.__doc__ = measure.question
    return measured


def _show(measure: Measure, directory: Path, checkpoint: str, output: Output, fresh: bool) -> None:
    from mechdistill.runs import FIGURES, check_directory

    check_directory(directory)  # before torch is imported
    from mechdistill.analysis import Applied
    from mechdistill.cli._arguments import parse_checkpoint
    from mechdistill.cli.summaries import summary
    from mechdistill.plots import figure
    from mechdistill.runs import load

    target = load(directory)
    with redirect_stdout(sys.stderr):  # what a user's definition prints is no result
        result = Applied(measure)(target, parse_checkpoint(checkpoint), fresh=fresh)
    present(
        result,
        lambda: summary(measure, result),
        lambda: figure(measure, result),
        directory / FIGURES / f"{_figure_name(measure, checkpoint)}.html",
        output,
    )


def _figure_name(measure: Measure, checkpoint: str) -> str:
    """Figures of other checkpoints than the measure's own stand beside that one, and do not replace it."""
    if checkpoint == measure.checkpoint:
        return measure.name
    return f"{measure.name}-{checkpoint}" if checkpoint in ("all", "last") else f"{measure.name}-step-{checkpoint}"
