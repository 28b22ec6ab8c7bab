"""`mechdistill runs sql`. It does not load torch."""

from pathlib import Path
from typing import Annotated

import typer

from mechdistill.cli._options import Folder, Json


def sql(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Like 'SELECT arm, avg(value) FROM metrics GROUP BY arm'.")
    ],
    folder: Folder = Path("runs"),
    json: Json = False,
) -> None:
    """Ask all runs under a folder by SQL: views runs, metrics, induction_scores and the other cached measures."""
    from mechdistill import runs
    from mechdistill.cli._print import print_rows

    print_rows(runs.sql(query, folder), json)
