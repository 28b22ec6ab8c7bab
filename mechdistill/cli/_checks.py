"""What students were taught, for `train` and `compare`: where teachers stopped, and the manipulation checks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from mechdistill.cli._grid import Grid
    from mechdistill.runs import Run


def about_teaching(run: "Run", log: "pd.DataFrame", checks: "pd.DataFrame") -> dict[str, Any]:
    """Of a run's row of the `train` table: where its `until` stopped it, what its routing picked, what failed."""
    from mechdistill.tables import LATER, last_step, metrics, pick

    config, last = run.config, last_step(log)
    columns: dict[str, Any] = {"until": next(iter(config.until.values()))} if config.until else {}
    for column, found in (
        ("stopped_at", pick(last, metrics.STOPPED_AT, LATER)),
        (metrics.ROUTING_PRECISION.name, pick(last, metrics.ROUTING_PRECISION, None)),
        (metrics.ROUTING_RECALL.name, pick(last, metrics.ROUTING_RECALL, None)),
    ):
        columns |= {column: float(found["value"].iloc[0])} if len(found) else {}
    own = checks[(checks["arm"] == config.treatment) & (checks["seed"] == config.seed)]
    failed = own.loc[~own["passed"].fillna(True), "check"]
    return columns | ({"failed_checks": ", ".join(failed)} if len(failed) else {})


def stops(results: "pd.DataFrame") -> Iterator[str]:
    """A line for each teacher that stopped where it was told to."""
    from mechdistill.tables.metrics import COPY_ACCURACY

    for row in results.dropna(subset=["stopped_at"]).to_dict("records"):
        reached = f"{COPY_ACCURACY.name} {row['stopped_at']:.3f} (asked for: {row['until']:g})"
        yield f"{row['run']}: stopped at step {row['step']}, {reached}"


def check_tables(checks: "pd.DataFrame") -> "Iterator[Grid]":
    """What arms were taught against what they were meant to be; nothing where none is taught."""
    from mechdistill.cli._grid import table

    if checks.empty:
        return
    columns = ["arm", "teacher", "check", "value", "has to be", "passed"]
    groups = checks.groupby(["arm", "teacher", "check"], sort=False)
    rows = [[*map(str, about), *_cells(part)] for about, part in groups]
    yield table("Manipulation checks, on what is taught alone", columns, rows, right=3, drop=("teacher",))


def _cells(part: "pd.DataFrame") -> list[str]:
    from mechdistill.cli._print import number

    value, low, high = part["value"], part["low"].iloc[0], part["high"].iloc[0]
    shown = number(value.mean())
    if value.count() > 1:
        shown += f" ({number(value.min())} to {number(value.max())})"
    passed = part["passed"].dropna()
    verdict = "-" if passed.empty else f"{int(passed.sum())} of {len(passed)}"
    return [shown, _bounds(low, high), {"0 of 1": "no", "1 of 1": "yes"}.get(verdict, verdict)]


def _bounds(low: float, high: float) -> str:
    from pandas import isna

    if isna(low):
        return "-" if isna(high) else f"<= {high:g}"
    return f">= {low:g}" if isna(high) else f"{low:g} to {high:g}"
