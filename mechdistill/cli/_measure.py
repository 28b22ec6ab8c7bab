"""The commands of measures, generated from their records: a table on stdout, a figure in the directory, or JSON."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from mechdistill.cli._options import Directory, Fresh, Json
from mechdistill.tables import Measure


def command(measure: Measure) -> Callable[..., None]:
    """The command of a measure."""

    def measured(
        directory: Directory,
        checkpoint: Annotated[
            str, typer.Option(metavar="last|all|STEP", help="Which checkpoints.")
        ] = measure.checkpoint,
        json: Json = False,
        no_cache: Fresh = False,
    ) -> None:
        _show(measure, directory, checkpoint, json, no_cache)

    measured.__doc__ = measure.question
    return measured


def _show(measure: Measure, directory: Path, checkpoint: str, as_json: bool, fresh: bool) -> None:
    from mechdistill.analysis import Applied
    from mechdistill.cli._arguments import parse_checkpoint
    from mechdistill.cli._print import print_json, stdout, write_figure
    from mechdistill.cli.summaries import summary
    from mechdistill.plots import figure
    from mechdistill.runs import load

    target = load(directory)
    with redirect_stdout(sys.stderr):  # what a user's definition prints is no result
        result = Applied(measure)(target, parse_checkpoint(checkpoint), fresh=fresh)
    if as_json:
        print_json(result)
        return
    for part in summary(measure, result):
        stdout().print(part)
    write_figure(directory, measure.name, figure(measure, result))
