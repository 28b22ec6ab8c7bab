"""`mechdistill compare`: arms against their baseline over seeds, as a table, a figure or JSON."""

from pathlib import Path

import pandas as pd
from rich.table import Table

from mechdistill import plots
from mechdistill.analysis import compare
from mechdistill.cli._print import number, print_json, stderr, stdout, table, write_figure
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, load
from mechdistill.tables import OUTCOMES


def show_comparison(
    directory: Path, other: Path | None, baseline: str | None, formed: float | None, as_json: bool
) -> None:
    """What each arm changed, with intervals and, where nothing is found, what could have been found."""
    if other is not None and baseline is not None:
        raise MechdistillError(f"--baseline {baseline}: two directories are compared arm by arm; give one of the two")
    first, second = _experiment(directory), _experiment(other) if other else None
    result = compare(first, second, baseline=baseline, formed=formed)
    if as_json:
        print_json(result)
        return
    for metric, part in result.groupby("metric", sort=False):
        stdout().print(_table(str(metric), part))
    for line in _inconclusive(result):
        stderr.print(line)
    write_figure(directory, "compare", plots.comparison_figure(result))


def _experiment(path: Path) -> Experiment:
    found = load(path)
    if not isinstance(found, Experiment):
        raise MechdistillError(f"{path}: is one run; give its experiment's directory, like {path.parent.parent}")
    return found


def _table(metric: str, part: pd.DataFrame) -> Table:
    outcome = OUTCOMES[metric]
    digits = outcome.digits
    rows: list[list[str]] = [
        [
            row["arm"],
            row["baseline"],
            str(row["n"]),
            number(row["difference"], digits),
            f"{number(row['low'], digits)} to {number(row['high'], digits)}" if pd.notna(row["low"]) else "-",
            number(row["p"], 4),
            number(row["p_sign_flip"], 4),
            number(row["p_holm"], 4),
            number(row["effect_size"], 2),
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
    return table(title, columns, rows, right=2)


def _inconclusive(result: pd.DataFrame) -> list[str]:
    """What is not known, and how large a difference would have been found four times in five."""
    lines: list[str] = []
    for row in result.to_dict("records"):
        name = f"{row['metric']}, {row['arm']}"
        if pd.isna(row["low"]):
            lines.append(f"{name}: {row['note']}")
        elif row["low"] <= 0 <= row["high"]:
            lines.append(
                f"{name}: inconclusive; {row['n']} pairs find a difference of "
                f"{row['minimum_detectable']:.3g} or more with power .8"
            )
    return lines
