"""`mechdistill match`: whose heads do what whose heads do, as a table, a figure or JSON."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mechdistill.cli._present import Output, present, with_output

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid


@with_output
def match(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An experiment directory, or a run.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run whose heads the first run's are matched with.")
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="last|STEP", help="Of both; of a teacher the last.")] = "last",
    *,
    output: Output,
) -> None:
    """Match heads: each student's with its teacher's and its twins', or those of two runs, beside what chance gives."""
    from mechdistill.runs import FIGURES, check_directory

    for path in (directory, other or directory):
        check_directory(path)  # before torch is imported
    from mechdistill import analysis, plots
    from mechdistill.cli._arguments import parse_checkpoint
    from mechdistill.errors import MechdistillError
    from mechdistill.runs import Experiment, Run, load

    if checkpoint == "all":
        raise MechdistillError("--checkpoint all: heads are matched at one; give 'last' or a step")
    first, second = load(directory), load(other) if other else None
    if second is None and isinstance(first, Run):
        raise MechdistillError(f"{directory}: is one run; give another one to match it with, or its experiment")
    for path, found in ((directory, first), (other, second)):
        if second is not None and isinstance(found, Experiment):
            raise MechdistillError(f"{path}: is an experiment; two runs are matched, like {path}/spt/seed-0")
    result = analysis.match_heads(first, second, cast(Any, parse_checkpoint(checkpoint)))
    present(
        result,
        lambda: _tables(result),
        lambda: plots.matching_figure(result),
        directory / FIGURES / "match.html",
        output,
    )


def _tables(result: "pd.DataFrame") -> "Iterator[Grid]":
    import pandas as pd

    from mechdistill.circuits import Head
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import number
    from mechdistill.tables import p_value

    columns = ["head", "matched with", "similarity", "untrained", "p", "shuffled", "p (shuffled)", "any labelling"]
    columns.append("at step 0")
    for (run, step, other, other_step), part in result.groupby(["run", "step", "other", "other_step"], sort=False):
        rows: list[list[str]] = []
        for row in part[part["matched"]].to_dict("records"):
            heads = ["all", ""]
            if pd.notna(row["layer"]):
                heads = [str(Head(int(row[f"{whose}layer"]), int(row[f"{whose}head"]))) for whose in ("", "other_")]
            untrained = [number(row["untrained"], 3), p_value(row["p"])]
            shuffled = [number(row["shuffled"], 3), p_value(row["p_shuffled"])]
            rest = [number(row[name], 3) for name in ("relabelled", "initial")]
            rows.append([*heads, number(row["value"], 3), *untrained, *shuffled, *rest])
        yield table(f"{run} @{step} with {other} @{other_step}", columns, rows, right=2)
