"""`mechdistill dynamics`: when each part forms, how arms differ in it, and what says it early."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mechdistill.cli._options import Directory, Fresh
from mechdistill.cli._present import Output, present, with_output

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.analysis import Dynamics
    from mechdistill.cli._grid import Grid

Rows = Literal["runs", "twins", "early-warning"]
_BEST = 3  # predictors a share of training, on the terminal
_LEVEL = 0.05


@with_output
def dynamics(
    directory: Directory,
    rows: Annotated[
        Rows, typer.Option(help="Which of the three tables --json and --table give; the terminal shows all.")
    ] = "runs",
    baseline: Annotated[str | None, typer.Option(metavar="ARM", help="The arm to compare with; default: spt.")] = None,
    formed: Annotated[
        float | None,
        typer.Option(
            metavar="ACCURACY", min=0, max=1, help="Copy accuracy at which copying has formed; default: half-way."
        ),
    ] = None,
    beyond: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            min=0,
            max=1,
            help="How far beyond its null a score has formed; default: half of the run's own last value.",
        ),
    ] = None,
    no_cache: Fresh = False,
    *,
    output: Output,
) -> None:
    """When each part of the copy circuit forms, which comes first, how arms differ in it, and what says it early."""
    from mechdistill.runs import FIGURES, check_directory

    check_directory(directory)  # before torch is imported
    from mechdistill import analysis, plots
    from mechdistill.cli._console import stderr
    from mechdistill.runs import load

    found = analysis.all_dynamics(load(directory), baseline=baseline, formed=formed, beyond=beyond, fresh=no_cache)
    result = {"runs": found.runs, "twins": found.twins, "early-warning": found.warning}[rows]

    def drawn() -> Any:
        if rows == "early-warning":
            return plots.early_warning_figure(found.warning)
        return plots.formation_figure(found.runs)

    name = "early-warning" if rows == "early-warning" else "dynamics"
    present(result, lambda: _tables(found), drawn, directory / FIGURES / f"{name}.html", output)
    for line in [*found.left_out, *_at_best(found.warning)]:
        stderr.print(line)


def _tables(found: "Dynamics") -> "Iterator[Grid]":
    yield _runs(found.runs)
    if len(found.twins):
        yield _twins(found.twins)
    if len(found.warning):
        yield _warning(found.warning)


def _runs(runs: "pd.DataFrame") -> "Grid":
    """One line a part and arm: means over the seeds in which it forms."""
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import number

    lines: list[list[str]] = []
    for (metric, arm), of_arm in runs.groupby(["metric", "arm"], sort=False):
        formed = of_arm[of_arm["formed"]]
        means = [formed[column].astype("Float64").mean() for column in ("crossing", "rise", "lead", "order")]
        spread = formed["crossing"].std() if len(formed) > 1 else None
        cells = [number(value, digits) for value, digits in zip(means, (0, 0, 0, 1), strict=True)]
        lines.append(
            [str(metric), str(arm), f"{len(formed)} of {len(of_arm)}", cells[0], number(spread, 0), *cells[1:]]
        )
    columns = ["part", "arm", "formed", "at step", "sd", "rise", "before copying", "order"]
    return table("when each part forms, steps, means over seeds", columns, lines, right=2, drop=("sd", "order", "rise"))


def _twins(twins: "pd.DataFrame") -> "Grid":
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import interval, number
    from mechdistill.tables import p_value

    lines: list[list[str]] = []
    for row in twins.dropna(subset="difference").to_dict("records"):
        ends = [interval(row["low"], row["high"], 0), p_value(row["p"]), p_value(row["p_holm"])]
        lines.append([row["metric"], row["what"], row["arm"], str(row["n"]), number(row["difference"], 0), *ends])
    columns = ["part", "what", "arm", "pairs", "difference", "95 % interval", "p (t)", "p (Holm)"]
    title = f"arm minus {twins['baseline'].iloc[0]}, steps"
    return table(title, columns, lines, right=3, drop=("p (Holm)", "pairs"))


def _warning(warning: "pd.DataFrame") -> "Grid":
    """The predictors with the least error at each share, beside copy accuracy; the whole table goes into files."""
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import number
    from mechdistill.tables import metrics, p_value

    copying = metrics.COPY_ACCURACY.name
    groups = [rows.sort_values("error", kind="stable") for _, rows in warning.groupby(["arm", "share"], sort=False)]
    chosen = [group[(group["error"].rank(method="first") <= _BEST) | (group["metric"] == copying)] for group in groups]
    lines = [
        [
            row["arm"],
            f"{row['share']:.0%}",
            row["metric"],
            str(row["n"]),
            str(row["already"]),
            number(row["error"], 1),
            number(row["baseline_error"], 1),
            number(row["skill"], 2),
            number(row["by_chance"], 2),
            p_value(row["p"]),
            p_value(row["p_holm"]),
        ]
        for rows in chosen
        for row in rows.to_dict("records")
    ]
    columns = [
        "arm",
        "at",
        "from",
        "seeds",
        "already formed",
        "error",
        "of the mean",
        "skill",
        "by chance",
        "p",
        "p (Holm)",
    ]
    title = f"formation step of an unseen seed, from a score early in training: the {_BEST} nearest, and copy accuracy"
    return table(title, columns, lines, right=3, drop=("p (Holm)", "by chance", "seeds"))


def _at_best(warning: "pd.DataFrame") -> list[str]:
    """Why there is no prediction, or what could come out of so few seeds at best: one line an arm."""
    from math import factorial

    from mechdistill.cli._print import number

    said = warning.dropna(subset="note").drop_duplicates(["arm", "note"])
    lines = [f"early warning, {row['arm']}: {row['note']}" for row in said.to_dict("records")]
    for arm, rows in warning.dropna(subset="p").groupby("arm", sort=False):
        least = 1 / factorial(int(rows["n"].min()))
        if least * len(rows) > _LEVEL:
            lines.append(
                f"early warning, {arm}: {rows['n'].min()} seeds can be dealt out in {round(1 / least)} ways: of "
                f"{len(rows)} predictions none can have p (Holm) below {number(min(1, least * len(rows)), 2)}"
            )
    return lines
