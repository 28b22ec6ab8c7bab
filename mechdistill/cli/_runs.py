"""`mechdistill runs`: what lies in run directories, without opening one by one."""

from pathlib import Path
from typing import Annotated

import typer

from mechdistill.cli._options import Json

runs = typer.Typer(help="List runs, show one, or ask all of them by SQL.", rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where runs lie, at any depth.")]


@runs.command("list")
def list_(folder: Folder = Path("runs"), json: Json = False) -> None:
    """All runs under a folder, of any number of experiments."""
    from mechdistill.cli._query import show_list

    show_list(folder, json)


@runs.command()
def show(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    json: Json = False,
) -> None:
    """One run: config, provenance, state, headline metrics, checkpoints and cached tables."""
    from mechdistill.cli._directory import show_run

    show_run(directory, json)


@runs.command()
def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Like 'SELECT arm, avg(value) FROM metrics GROUP BY arm'.")
    ],
    folder: Folder = Path("runs"),
    json: Json = False,
) -> None:
    """Ask all runs under a folder by SQL: views runs, metrics, induction_scores and the other cached measures."""
    from mechdistill.cli._query import show_sql

    show_sql(query, folder, json)
