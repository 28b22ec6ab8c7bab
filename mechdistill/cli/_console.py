"""The two consoles: results go to stdout, everything else to stderr."""

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from mechdistill.cli._grid import Facts, Grid

_PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}
_ENDLESS = 100_000  # columns: where stdout is a file or a pipe nothing is shortened or left out

stderr = Console(**_PLAIN, stderr=True, soft_wrap=True)


def show(tables: Iterable[Grid | Facts]) -> None:
    """Print tables on stdout, as wide as the terminal is, or as COLUMNS says."""
    console = Console(**_PLAIN)
    fits = console.is_terminal or os.environ.get("COLUMNS", "").isdecimal()
    for i, table in enumerate(tables):
        if i:
            console.print()
        for line in table.lines(console.width if fits else _ENDLESS):
            console.print(Text(line.text, "bold" if line.bold else ""), soft_wrap=True)
