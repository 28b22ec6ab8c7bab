"""`mechdistill presets`."""

import sys
from typing import Annotated

import typer

from mechdistill.cli._options import known_presets


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Print this preset's file.", autocompletion=known_presets)
    ] = None,
) -> None:
    """List the presets, or print one as a file to start from."""
    from mechdistill.cli._console import show
    from mechdistill.cli._grid import Facts
    from mechdistill.config import preset_names, preset_text

    if name is not None:
        sys.stdout.write(preset_text(name))
        return
    comments = {
        known: [line.lstrip("# ") for line in preset_text(known).splitlines() if line.startswith("#")]
        for known in preset_names()
    }
    show([Facts("", {known: " ".join(lines) for known, lines in comments.items()})])
