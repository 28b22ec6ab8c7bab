"""`mechdistill publish`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mechdistill.cli._options import Directory


def publish(
    directory: Directory,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    checkpoints: Annotated[
        Literal["all", "last"], typer.Option(metavar="all|last", help="Which checkpoints go along.")
    ] = "all",
    format: Annotated[
        Literal["native", "transformers"],
        typer.Option(metavar="native|transformers", help="For md.load, or for from_pretrained of transformers."),
    ] = "native",
    license: Annotated[str | None, typer.Option(metavar="ID", help="For the model card, like mit.")] = None,
) -> None:
    """Write a finished run or experiment as a folder for others: model card, weights, metrics."""
    from mechdistill.runs import check_directory

    check_directory(directory)  # before torch is imported
    from mechdistill import publishing
    from mechdistill.analysis import progress
    from mechdistill.cli._console import stderr
    from mechdistill.runs import load

    with progress("publish"):
        publishing.publish(load(directory), folder, checkpoints=checkpoints, format=format, license=license)
    stderr.print(f"{folder}: published; read its README.md before you pass it on")
