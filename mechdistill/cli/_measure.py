"""The commands of measures, generated from their records: a table on stdout, a figure in the directory, or JSON."""

import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from mechdistill.cli._options import Directory, Fresh, Model
from mechdistill.cli._present import Output, present, with_output
from mechdistill.tables import Measure

_HUGGING_FACE = "config.json"


def command(measure: Measure) -> Callable[..., None]:
    """The command of a measure."""

    def measured(
        directory: Directory,
        checkpoint: Annotated[
            str, typer.Option(metavar="last|all|STEP", help="Which checkpoints.")
        ] = measure.checkpoint,
        no_cache: Fresh = False,
        *,
        output: Output,
    ) -> None:
        _show(measure, directory, checkpoint, output, no_cache)

    measured.__doc__ = measure.question
    if measure.foreign is not None:
        measured.__annotations__["directory"] = Model
    return with_output(measured)


def _show(measure: Measure, directory: Path, checkpoint: str, output: Output, fresh: bool) -> None:
    from mechdistill.runs import FIGURES

    foreign = _is_foreign(measure, directory)  # before torch is imported
    from mechdistill.analysis import Applied
    from mechdistill.cli._arguments import parse_checkpoint
    from mechdistill.cli.summaries import summary
    from mechdistill.plots import figure
    from mechdistill.runs import load

    target = str(directory) if foreign else load(directory)
    with redirect_stdout(sys.stderr):  # what a user's definition prints is no result
        result = Applied(measure)(target, parse_checkpoint(checkpoint), fresh=fresh)
    present(
        result,
        lambda: summary(measure, result),
        lambda: figure(measure, result),
        None if foreign else directory / FIGURES / f"{_figure_name(measure, checkpoint)}.html",
        output,
    )


def _is_foreign(measure: Measure, where: Path) -> bool:
    """Whether it is no run and no experiment, but may be a model; raises `MechdistillError` for what is neither.

    What is there comes first, and of that what is ours: only what no path leads to is a name.
    """
    from mechdistill.runs import check_directory, folder_of, is_ours

    is_model = not os.path.lexists(where) or (where / _HUGGING_FACE).is_file()
    if measure.foreign is not None and is_model and not is_ours(where):
        folder_of(where)
        return True
    check_directory(where)
    return False


def _figure_name(measure: Measure, checkpoint: str) -> str:
    """Figures of other checkpoints than the measure's own stand beside that one, and do not replace it."""
    if checkpoint == measure.checkpoint:
        return measure.name
    return f"{measure.name}-{checkpoint}" if checkpoint in ("all", "last") else f"{measure.name}-step-{checkpoint}"
