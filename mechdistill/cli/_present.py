"""What commands that draw do with what they found: numbers onto stdout, a figure and a table into files."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mechdistill.cli._destination import check_destination
from mechdistill.cli._options import FigureFile, Json, NoFigure, TableFile, Width
from mechdistill.errors import MechdistillError, NotStored

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid

_PAGE = ".html"
_CSV, _LATEX = ".csv", ".tex"
_WIDTH, _NARROWEST, _WIDEST = 1000, 400, 4000  # pixels


class Output(NamedTuple):
    """How the user wants it."""

    json: bool
    figure: Path | None
    no_figure: bool
    width: int | None
    table: Path | None

    def check(self) -> "Output":
        """Itself; raises `MechdistillError` for a figure or a table that cannot be, before anything is computed."""
        if self.figure is not None and self.no_figure:
            raise MechdistillError(f"--figure {self.figure} and --no-figure: give one of the two")
        if self.table is not None:
            check_destination("--table", self.table, "tables", (_CSV, _LATEX))
        if self._is_picture():
            from mechdistill.plots import browser

            browser()
        elif self.width is not None:
            raise MechdistillError(
                f"--width {self.width}: is of a picture, and a page fills its window; add --figure FILE.png, say"
            )
        if self.width is not None and not _NARROWEST <= self.width <= _WIDEST:
            raise MechdistillError(f"--width {self.width}: must be between {_NARROWEST} and {_WIDEST} pixels")
        return self

    def _is_picture(self) -> bool:
        """Whether a browser has to draw the figure; raises `MechdistillError` where it cannot go where it should."""
        if self.figure is None:
            return False
        from mechdistill.plots import PAGE, PICTURES

        return check_destination("--figure", self.figure, "figures", (PAGE, *PICTURES)) in PICTURES


_OPTIONS = {
    "json": (Json, False),
    "figure": (FigureFile, None),
    "no_figure": (NoFigure, False),
    "width": (Width, None),
    "table": (TableFile, None),
}
"""What the command line reads `Output` from: kind and default of each of its fields."""


def with_output(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options in the place of its parameter `output`, which it gets checked."""

    def run(**given: Any) -> None:
        output = Output(*(given.pop(name) for name in Output._fields)).check()
        command(**given, output=output)

    own = inspect.signature(command).parameters.values()
    kept = [one.replace(kind=one.KEYWORD_ONLY) for one in own if one.name != "output"]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _OPTIONS.items()
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {one.name: one.annotation for one in (*kept, *options)}
    setattr(run, "__signature__", inspect.Signature([*kept, *options]))  # noqa: B010 - functions have none declared
    return run


def present(
    result: "pd.DataFrame",
    tables: Callable[[], "Iterable[Grid]"],
    figure: Callable[[], Any],
    default: Path | None,
    output: Output,
) -> None:
    """Store figure and table, and print the tables, or the result as JSON; with JSON only a figure that was asked for.

    The files come first: whoever reads stdout may leave. A figure that cannot be stored is a warning; a file that was
    named and cannot be stored raises `MechdistillError` once the numbers are printed. Without a `default` place only a
    figure that was asked for is drawn. `figure` gives None where there is nothing to draw.
    """
    from mechdistill.cli._console import show
    from mechdistill.cli._print import print_json

    wanted = output.figure or (None if output.json or output.no_figure else default)
    problems = [
        None if wanted is None else _store_figure(figure, wanted, output),
        _store_table(result, tables, output.table),
    ]
    print_json(result) if output.json else show(tables())
    for problem in problems:
        if problem is not None:
            raise problem


def _store_figure(figure: Callable[[], Any], path: Path, output: Output) -> MechdistillError | None:
    from mechdistill.cli._console import stderr
    from mechdistill.plots import to_bytes
    from mechdistill.runs import write_bytes

    try:
        made = figure()
        if made is None:
            if output.figure is not None:
                return MechdistillError(f"--figure {path}: there is nothing to draw; leave it out")
            stderr.print("no figure: there is nothing to draw")
            return None
        write_bytes(path, to_bytes(made, path.suffix.lower(), output.width or _WIDTH))
    except MechdistillError as error:
        if output.figure is not None:
            return error
        warnings.warn(f"no figure: {error}; -o FILE puts it elsewhere", NotStored, stacklevel=2)
    else:
        stderr.print(f"figure: {path}" + "   (opens offline)" * (path.suffix.lower() == _PAGE))
    return None


def _store_table(
    result: "pd.DataFrame", tables: Callable[[], "Iterable[Grid]"], path: Path | None
) -> MechdistillError | None:
    """The whole long table as CSV, or as LaTeX what the terminal shows."""
    from mechdistill.cli._console import stderr
    from mechdistill.cli._latex import document
    from mechdistill.runs import write_text

    if path is None:
        return None
    try:
        write_text(path, result.to_csv(index=False) if path.suffix.lower() == _CSV else document(tables()))
    except MechdistillError as error:
        return error
    stderr.print(f"table: {path}")
    return None
