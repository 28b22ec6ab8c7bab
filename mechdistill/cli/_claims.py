"""`mechdistill claims`: the verdicts on the paper's claims, as a table, a figure or JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechdistill.cli._present import Output, present, with_output

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid


@with_output
def claims(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An experiment directory.")],
    no_null: Annotated[
        bool, typer.Option("--no-null", help="Without tables that have no context, which take a while.")
    ] = False,
    *,
    output: Output,
) -> None:
    """Which of the paper's claims hold here: criterion, check, effect, interval, verdict, and what a table shows."""
    from mechdistill.runs import FIGURES, check_directory

    check_directory(directory)  # before torch is imported
    from mechdistill import analysis, plots
    from mechdistill.cli._arguments import experiment_of
    from mechdistill.cli._console import stderr

    result = analysis.claims(experiment_of(directory), null=not no_null)
    present(
        result,
        lambda: _tables(result),
        lambda: plots.claims_figure(result),
        directory / FIGURES / "claims.html",
        output,
    )
    for line in [] if output.json else _reasons(result):
        stderr.print(line)


def _tables(result: "pd.DataFrame") -> "Iterator[Grid]":
    from mechdistill.cli._grid import table
    from mechdistill.stats import NOT_TESTED

    each = result.drop_duplicates("claim").to_dict("records")
    rows = [[row["claim"], row["claim_verdict"], row["statement"]] for row in each]
    yield table("Claims of arXiv 2509.01649", ["claim", "verdict", "says"], rows, right=3)
    tested = result[result["claim_verdict"] != NOT_TESTED]
    if len(tested):
        heads = ["claim", "criterion", "effect", "95 % interval", "seeds", "verdict", "table without context"]
        heads.append("its verdict")
        rows = [_line(row) for row in tested.to_dict("records")]
        yield table("Criteria", heads, rows, right=2, drop=("its verdict", "table without context", "seeds"))


def _reasons(result: "pd.DataFrame") -> list[str]:
    """Of each claim, the checks that it passes and why there is no verdict, or no interval; a line each."""
    from mechdistill.stats import NOT_TESTED

    lines: list[str] = []
    for name, part in result.groupby("claim", sort=False):
        check = part["check"].iloc[0]
        tested = part["claim_verdict"].iloc[0] != NOT_TESTED
        said = [f"checks: {check}"] * (tested and isinstance(check, str))
        said += dict.fromkeys(f"{NOT_TESTED}: {note}" * (not tested) or str(note) for note in part["note"].dropna())
        lines += [f"{name}: {'; '.join(said)}"] * bool(said)
    return lines


def _line(row: "dict[Any, Any]") -> list[str]:
    import pandas as pd

    from mechdistill.cli._print import interval, number

    null, ends = number(row["null_effect"]), interval(row["null_low"], row["null_high"])
    return [
        row["claim"],
        row["criterion"],
        number(row["effect"]),
        interval(row["low"], row["high"]),
        str(row["n"]),
        row["verdict"],
        null if ends == "-" else f"{null} ({ends})",
        "" if pd.isna(row["null_verdict"]) else row["null_verdict"],
    ]
