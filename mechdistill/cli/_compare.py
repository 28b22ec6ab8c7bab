"""`mechdistill compare`: arms against their baseline over seeds, as a table, a figure or JSON."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechdistill.cli._present import Output, present, with_output
from mechdistill.errors import MechdistillError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from mechdistill.cli._grid import Grid


@with_output
def compare(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An experiment directory.")],
    other: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Another one: compare its arms with those of the first.")
    ] = None,
    baseline: Annotated[str | None, typer.Option(metavar="ARM", help="The arm to compare with; default: spt.")] = None,
    formed: Annotated[
        float | None,
        typer.Option(
            metavar="ACCURACY",
            min=0,
            max=1,
            help="Copy accuracy at which the copy circuit has formed; default: half-way to the oracle's.",
        ),
    ] = None,
    contrast: Annotated[
        str | None,
        typer.Option(
            metavar="ARM:ARM",
            help="Instead: one arm minus another, beyond the same of --beyond, by seed.",
        ),
    ] = None,
    beyond: Annotated[
        str | None, typer.Option(metavar="ARM:ARM", help="The two arms that --contrast is held against.")
    ] = None,
    variance: Annotated[
        bool,
        typer.Option(
            "--variance", help="Instead, of crossed seeds: what makes runs of an arm differ, weights, data or teacher."
        ),
    ] = False,
    *,
    output: Output,
) -> None:
    """What distillation changed: every arm against its baseline over seeds, with intervals."""
    from mechdistill.runs import FIGURES, check_directory

    for path in (directory, other or directory):
        check_directory(path)  # before torch is imported
    from mechdistill import analysis, plots, training
    from mechdistill.cli._arguments import experiment_of
    from mechdistill.cli._checks import check_tables
    from mechdistill.cli._console import stderr
    from mechdistill.config import CrossedSeeds

    if other is not None and baseline is not None:
        raise MechdistillError(f"--baseline {baseline}: two directories are compared arm by arm; give one of the two")
    if variance:
        for option, given in (("DIR", other), ("--baseline", baseline), ("--contrast", contrast), ("--beyond", beyond)):
            if given is not None:
                raise MechdistillError(f"--variance: is about single arms of one experiment; leave {option} out")
        from mechdistill.cli._variance import present_variance

        present_variance(experiment_of(directory), formed, output)
        return
    contrasts = _contrasts(contrast, beyond, alone=other is None and baseline is None)
    first, second = experiment_of(directory), experiment_of(other) if other else None
    with analysis.progress("compare"):
        if contrasts is not None:
            compared = None
            result = analysis.difference_in_differences(first, *contrasts, formed=formed)
        else:
            compared = analysis.compared(first, second, baseline=baseline, formed=formed)
            result = compared.table

    def tables() -> "Iterator[Grid]":
        for metric, part in result.groupby("metric", sort=False):
            yield _table(str(metric), part)
        for experiment in (first, second) if second is not None else (first,):
            yield from check_tables(training.checks(experiment))

    present(
        result,
        tables,
        lambda: plots.comparison_figure(result),
        directory / FIGURES / ("compare.html" if contrasts is None else "contrast.html"),
        output,
    )
    if isinstance(first.config.seeds, CrossedSeeds):
        stderr.print("note: pairs that share a crossed seed are not independent: intervals and p come out too small")
    for line in [] if output.json else _inconclusive(result):
        stderr.print(line)
    if compared is not None:
        stderr.print(f"used: {compared.used} of the {compared.named} runs that the experiment names")
        for line in compared.left_out:
            stderr.print(line)


def _contrasts(contrast: str | None, beyond: str | None, alone: bool) -> tuple[tuple[str, str], tuple[str, str]] | None:
    """Both pairs of arms, or None where neither is given."""
    if contrast is None and beyond is None:
        return None
    if contrast is None or beyond is None:
        given = f"--contrast {contrast}" if beyond is None else f"--beyond {beyond}"
        raise MechdistillError(f"{given}: is half of a difference of differences; give --contrast and --beyond")
    if not alone:
        raise MechdistillError(f"--contrast {contrast}: names its own arms; leave --baseline and the second DIR out")
    return _pair("contrast", contrast), _pair("beyond", beyond)


def _pair(option: str, given: str) -> tuple[str, str]:
    match given.split(":"):
        case [arm, baseline] if arm and baseline:
            return arm, baseline
        case _:
            raise MechdistillError(f"--{option} {given}: must be two arms, like dpt-90:spt")


def _table(metric: str, part: "pd.DataFrame") -> "Grid":
    from mechdistill.cli._grid import table
    from mechdistill.cli._print import interval, number
    from mechdistill.tables import OUTCOMES, p_value

    outcome = OUTCOMES[metric]
    digits = outcome.digits
    followed = bool(part["threshold"].notna().any())
    rows: list[list[str]] = [
        [
            row["arm"],
            row["baseline"],
            _pairs(row),
            number(row["difference"], digits),
            interval(row["low"], row["high"], digits),
            p_value(row["p"]),
            p_value(row["p_sign_flip"]),
            p_value(row["p_holm"]),
            number(row["effect_size"], 2),
            *(_followed(row, digits) if followed else []),
        ]
        for row in part.to_dict("records")
    ]
    title = f"{metric}, arm minus baseline" + " (primary)" * outcome.primary
    columns = [
        "arm",
        "baseline",
        "pairs",
        "difference",
        "95 % interval",
        "p (t)",
        "p (sign flip)",
        "p (Holm)",
        "effect",
    ]
    if followed:
        columns += ["formed at", "horizon", "not formed", "of baseline"]
    return table(title, columns, rows, right=2, drop=("effect", "p (sign flip)", "baseline", "p (Holm)", "pairs"))


def _pairs(row: "dict[Any, Any]") -> str:
    """How many, and of how many where some are lacking."""
    import pandas as pd

    short = not pd.isna(row["expected"]) and row["n"] < row["expected"]
    return f"{row['n']} of {row['expected']}" if short else str(row["n"])


def _followed(row: "dict[Any, Any]", digits: int) -> list[str]:
    """From which accuracy a circuit has formed, up to when runs are followed, and how many had not formed by then."""
    from mechdistill.cli._print import number

    counts = [number(row[name], 0) for name in ("censored", "baseline_censored")]
    return [number(row["threshold"], 3), number(row["horizon"], digits), *counts]


def _inconclusive(result: "pd.DataFrame") -> list[str]:
    """What is not known, and how large a difference would have been found four times in five."""
    lines: list[str] = []
    for row, unknown in zip(result.to_dict("records"), result["low"].isna(), strict=True):
        name = f"{row['metric']}, {row['arm']}"
        if unknown:
            lines.append(f"{name}: {row['note']}")
        elif row["low"] <= 0 <= row["high"]:
            lines.append(
                f"{name}: inconclusive; {row['n']} pairs find a difference of "
                f"{row['minimum_detectable']:.3g} or more with power .8"
            )
    return lines
