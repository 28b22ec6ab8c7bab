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
Model = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A run or an experiment directory; or a folder in Hugging Face's format, or a model's name there.",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where runs lie, at any depth.")]
FigureFile = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--figure",
        metavar="FILE",
        help="Where the figure goes: .html, or .png, .svg or .pdf, which an installed Chromium or Chrome draws.",
    ),
]
NoFigure = Annotated[bool, typer.Option("--no-figure", help="Draw none.")]
Width = Annotated[
    int | None,
    typer.Option("--width", metavar="PIXELS", help="How wide a .png, .svg or .pdf is, 400 to 4000; default: 1000."),
]
TableFile = Annotated[
    Path | None,
    typer.Option("--table", metavar="FILE", help="Also the numbers: .csv, all of them, or .tex, as shown here."),
]
