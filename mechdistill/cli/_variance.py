"""`mechdistill compare --variance`: what makes the runs of one arm differ, as tables, a figure or JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mechdistill.cli._present import Output, present

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid
    from mechdistill.runs import Experiment


def present_variance(experiment: "Experiment", formed: float | None, output: Output) -> None:
    """Shares of the variance over crossed seeds, an arm a line."""
    from mechdistill import analysis, plots
    from mechdistill.cli._console import stderr
    from mechdistill.runs import FIGURES

    with analysis.progress("variance"):
        result = analysis.variance_shares(experiment, formed=formed)

    def tables() -> "Iterator[Grid]":
        for metric, part in result.groupby("metric", sort=False):
            yield _table(str(metric), part)

    present(result, tables, lambda: plots.variance_figure(result), experiment.path / FIGURES / "variance.html", output)
    if not output.json:
        stderr.print("shares of the variance over runs; rest: interactions and noise, which one run a cell cannot tell")
        for line in _remarks(result):
            stderr.print(line)


def _table(metric: str, part: "pd.DataFrame") -> "Grid":
    from mechdistill.cli._grid import table

    factors = list(dict.fromkeys(part["factor"]))
    rows: list[list[str]] = []
    for arm, mine in part.groupby("arm", sort=False):
        cells = ["-" if row["note"] else _share(row) for row in mine.to_dict("records")]
        rows.append([str(arm), str(mine["n"].iloc[0]), *cells])
    return table(f"{metric}, shares of the variance", ["arm", "runs", *factors], rows, drop=("runs",))


def _remarks(result: "pd.DataFrame") -> Iterator[str]:
    """Which estimates were negative, and how many runs had not formed."""
    for row in result.to_dict("records"):
        if row["clamped"]:
            yield f"{row['metric']}, {row['arm']}: the estimate of {row['factor']} was negative and counts as 0"
    followed = result[result["censored"].fillna(0) > 0].drop_duplicates(["metric", "arm"])
    for row in followed.to_dict("records"):
        yield (
            f"{row['metric']}, {row['arm']}: {row['censored']} of {row['n']} runs had not formed by {row['horizon']} "
            "tokens and count as that"
        )


def _share(row: "dict[Any, Any]") -> str:
    from mechdistill.cli._print import interval

    ends = interval(row["low"], row["high"], 2)
    return f"{row['share']:.2f}" + f" ({ends})" * (ends != "-")
