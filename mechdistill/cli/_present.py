"""What commands that draw do with what they found: numbers onto stdout, a figure into a file."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mechdistill.errors import MechdistillError, NotStored

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid

_SUFFIX = ".html"


class Output(NamedTuple):
    """How the user wants it."""

    json: bool
    figure: Path | None
    no_figure: bool

    def check(self) -> "Output":
        """Itself; raises `MechdistillError` for a figure that cannot be."""
        if self.figure is not None and self.no_figure:
            raise MechdistillError(f"--figure {self.figure} and --no-figure: give one of the two")
        if self.figure is not None and self.figure.suffix != _SUFFIX:
            wanted = self.figure.with_suffix(_SUFFIX) if self.figure.name else f"figure{_SUFFIX}"
            raise MechdistillError(
                f"--figure {self.figure}: figures are written as {_SUFFIX} only; name it like {wanted}"
            )
        return self


def present(
    result: "pd.DataFrame",
    tables: Callable[[], "Iterable[Grid]"],
    figure: Callable[[], Any],
    default: Path,
    output: Output,
) -> None:
    """Store the figure, and print the tables, or the result as JSON; with JSON only a figure that was asked for.

    The figure comes first: whoever reads stdout may leave. One that cannot be stored is a warning, or, where its file
    was named, raises `MechdistillError` once the numbers are printed.
    """
    from mechdistill.cli._console import show
    from mechdistill.cli._print import print_json

    wanted = output.figure is not None or not (output.json or output.no_figure)
    problem = _store(figure, default, output) if wanted else None
    print_json(result) if output.json else show(tables())
    if problem is not None:
        raise problem


def _store(figure: Callable[[], Any], default: Path, output: Output) -> MechdistillError | None:
    from mechdistill.cli._console import stderr
    from mechdistill.plots import to_html
    from mechdistill.runs import write_text

    path = output.figure or default
    try:
        write_text(path, to_html(figure()))
    except MechdistillError as error:
        if output.figure is not None:
            return error
        warnings.warn(f"no figure: {error}; -o FILE puts it elsewhere", NotStored, stacklevel=2)
    else:
        stderr.print(f"figure: {path}   (opens offline)")
    return None
