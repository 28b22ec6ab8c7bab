"""A bar on stderr for what takes its time; nothing where that is no terminal, or where it is done at once."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Timer

Advance = Callable[[str], None]
"""Told what has been done, whenever another part has."""

_PATIENCE = 2.0  # seconds before anything is shown


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Advance]:
    """Show how far `what` is, once it has taken 2 s: of `total` parts, or that it is at work.

    In a terminal and in notebooks; a file or a pipe sees nothing of it.
    """
    from rich.console import Console

    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    if not (console.is_terminal or console.is_jupyter) or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison]
        yield lambda _: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns += [MofNCompleteColumn(), TimeRemainingColumn(compact=True), TextColumn("{task.fields[done]}")]
    shown = Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
    task = shown.add_task(what, total=total, done="")
    later = Timer(_PATIENCE, shown.start)
    later.daemon = True
    later.start()
    try:
        yield lambda done: shown.update(task, advance=1, done=done)
    finally:
        later.cancel()
        later.join()
        shown.stop()
