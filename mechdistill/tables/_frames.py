"""Data frames of the tables: typed, in order, and picked from."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mechdistill.tables._columns import RUN_COLUMNS, Occurrence, Table
from mechdistill.tables.metrics import HEADLINES, NO_MATCHING_EXACT, Metric


def frame(table: Table, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a data frame with exactly the table's columns, in order and typed; absent cells are null.

    Raises KeyError for a column that the table does not have.
    """
    rows = list(rows)
    unknown = {key for row in rows for key in row} - {column.name for column in table.columns}
    if unknown:
        raise KeyError(f"columns {sorted(unknown)} are not in the schema of table '{table.name}'")
    return pd.DataFrame({c.name: pd.Series([row.get(c.name) for row in rows], dtype=c.dtype) for c in table.columns})


def with_run(
    data: pd.DataFrame, *, run: str, arm: str, seed: int, step: int | None = None, tokens: int | None = None
) -> pd.DataFrame:
    """A measure's frame with the run's columns in front; step and tokens may be columns of the frame already."""
    values: dict[str, Any] = {"run": run, "arm": arm, "seed": seed}
    if step is not None:
        values |= {"step": step, "tokens": tokens}
    front = {
        c.name: pd.Series(values[c.name], index=data.index, dtype=c.dtype) for c in RUN_COLUMNS if c.name in values
    }
    return pd.concat([pd.DataFrame(front), data], axis=1)


def pick(metrics: pd.DataFrame, metric: Metric, occurrence: Occurrence | None) -> pd.DataFrame:
    """The rows of one metric at one occurrence (None: of none in particular), all buckets together."""
    rows = metrics[(metrics["metric"] == metric.name) & metrics["bucket"].isna()]
    return rows[rows["occurrence"].isna()] if occurrence is None else rows[rows["occurrence"] == occurrence]


def last_step(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last step."""
    return data[data["step"] == data.groupby("run")["step"].transform("max")]


def no_matching_by(data: pd.DataFrame) -> str:
    """In words, whose accuracy the no-matching baseline of a table is; empty where it has none."""
    exact = data[data["metric"] == NO_MATCHING_EXACT.name]["value"]
    return "" if exact.empty else "exact Bayes" if exact.iloc[0] == 1 else "best of a few rules"


def since_half(data: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Since when a value has stood: columns `by` and `since`, the step from which on it is at least half its last one.

    `since` is the first checkpoint after which no value falls below half of the last, with the same sign; null where
    the last value is 0 or missing. `by` names what tells the values apart, like run, metric, layer and head.
    """

    def since(values: "pd.Series[float]") -> int | None:
        last = values.iloc[-1]
        if pd.isna(last) or last == 0:
            return None
        below = (~(values / last >= 0.5)).to_numpy().nonzero()[0]
        return int(values.index[below[-1] + 1 if len(below) else 0])

    steps = data.sort_values("step").set_index("step").groupby(by, sort=False, dropna=False)["value"]
    rows = [{**dict(zip(by, place, strict=True)), "since": since(values)} for place, values in steps]
    return pd.DataFrame(rows, columns=[*by, "since"]).astype({"since": "Int64"})


def headline(metrics: pd.DataFrame) -> dict[str, float]:
    """The few numbers that say what a run came to, at its last step."""
    last = metrics[metrics["step"] == metrics["step"].max()]
    values = {outcome.name: pick(last, outcome.metric, outcome.occurrence)["value"] for outcome in HEADLINES}
    return {column: float(value.iloc[0]) for column, value in values.items() if len(value)}


def with_arms(table: pd.DataFrame, arms: Iterable[str]) -> pd.DataFrame:
    """The table with a note of all arms of its experiment, which figures need to give an arm the same look everywhere.

    It lies in the frame's `attrs`, so that it outlives filtering, and is in no file.
    """
    table.attrs["arms"] = list(dict.fromkeys(arms))
    return table


def arms_of(table: pd.DataFrame) -> list[str]:
    """All arms of a table's experiment, in its order, as far as that was noted; then what else is in the table."""
    return list(dict.fromkeys([*table.attrs.get("arms", ()), *map(str, table["arm"])]))
