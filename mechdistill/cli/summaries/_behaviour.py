"""Behaviour for the terminal: in-context tasks by distance, and diversity beside validity."""

from collections.abc import Iterator

import pandas as pd

from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import TEMPERATURE, Metric, last_step, metrics

_BESIDE = {"the oracle": "ceiling", "no matching": "no_matching", "no context": "no_context"}


def in_context(data: pd.DataFrame) -> Iterator[Grid]:
    """Of each task one line a run, accuracy by distance and by quarter; then what context is worth to each run."""
    last = last_step(data)
    accuracy = last[last["metric"] == metrics.IN_CONTEXT_ACCURACY.name]
    for task, part in accuracy.groupby("task", sort=False):
        by = [column for column in ("distance", "quarter") if part[column].notna().any()]
        places = [(column, int(at)) for column in by for at in sorted(part[column].dropna().unique())]
        rows: list[list[str]] = []
        for run, own in part.groupby("run", sort=False):
            rows.append([f"{run} @{own['step'].iloc[0]}", *(_at(own, place, "value") for place in places)])
        first = part[part["run"] == part["run"].iloc[0]]
        for label, column in _BESIDE.items():
            if first[column].notna().any():
                rows.append([label, *(_at(first, place, column) for place in places)])
        heads = [f"d={at}" if column == "distance" else f"quarter {at + 1}" for column, at in places]
        yield table(
            f"{task}: accuracy by distance d, and by where the pair stands",
            ["run", *heads],
            rows,
            drop=tuple(heads[1:-1]),
        )
    worth = last[last["metric"] == metrics.ICL_AGAINST_ORACLE.name]
    wins = last[last["metric"] == metrics.ROW_WINS.name].groupby("run")["value"].mean()
    rows = [
        [str(row["run"]), number(row["value"]), number(row["no_context"]), number(wins.get(row["run"]))]
        for row in worth.to_dict("records")
    ]
    heads = ["run", metrics.ICL_AGAINST_ORACLE.name, "no context", metrics.ROW_WINS.name]
    yield table("what context is worth (1: to the oracle), and how often the row wins over it", heads, rows)


def _at(rows: pd.DataFrame, place: tuple[str, int], column: str) -> str:
    return number(rows[rows[place[0]] == place[1]][column].iloc[0])


def diversity(data: pd.DataFrame) -> Iterator[Grid]:
    """One line a run and temperature, validity first; the world's own sequences last."""
    last = last_step(data)
    k = int(last["k"].max())
    columns: list[tuple[Metric, str, int | None, str]] = [
        (metrics.VALIDITY, "n", None, metrics.VALIDITY.name),
        (metrics.DISTINCT, "n", 2, "distinct-2"),
        (metrics.VALID_DISTINCT, "n", 2, "valid distinct-2"),
        (metrics.VALID_DISTINCT, "n", 4, "valid distinct-4"),
        (metrics.ENTROPY_RATE, "n", None, f"{metrics.ENTROPY_RATE.name}, nats"),
        (metrics.VENDI, "n", 2, metrics.VENDI.name),
        (metrics.UNIQUE_CORRECT, "k", k, f"{metrics.UNIQUE_CORRECT.name} of {k}"),
    ]

    def cells(rows: pd.DataFrame, column: str) -> list[str]:
        return [number(_picked(rows, metric, by, at)[column].iloc[0]) for metric, by, at, _ in columns]

    lines: list[list[str]] = []
    for (run, temperature), part in last.groupby(["run", TEMPERATURE.name], sort=False):
        lines.append([str(run), f"{temperature:g}", *cells(part, "value")])
    first = last[last["run"] == last["run"].iloc[0]]
    lines.append(["the world itself", "", *cells(first, "reference")])
    n = int(_picked(last, metrics.VALIDITY, "n", None)["sequences"].iloc[0])
    title = f"how different {n} generated sequences are, beside how valid (noise raises the one and lowers the other)"
    heads = ["run", TEMPERATURE.name, *(name for *_, name in columns)]
    yield table(title, heads, lines, right=1, drop=(heads[5], heads[3]))


def _picked(rows: pd.DataFrame, metric: Metric, by: str, at: int | None) -> pd.DataFrame:
    found = rows[rows["metric"] == metric.name]
    return found if at is None else found[found[by] == at]
