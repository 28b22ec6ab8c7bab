"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def known_presets(incomplete: str) -> list[str]:
    """For the shell's completion."""
    from mechdistill.config import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
Fresh = Annotated[bool, typer.Option("--no-cache", help="Compute anew instead of reading cached tables.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A run or an experiment directory.")]
Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where runs lie, at any depth.")]
FigureFile = Annotated[Path | None, typer.Option("-o", "--figure", metavar="FILE.html", help="Where the figure goes.")]
NoFigure = Annotated[bool, typer.Option("--no-figure", help="Draw none.")]
