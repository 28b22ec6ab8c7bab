"""What a run comes to in a claim: one number a run, from the tables of measures. Tables in, a long table out.

To add one: a function from a table to rows (arm, seed, value), and its line in `QUANTITIES`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from mechdistill.circuits.scores import TRIGGER_LOOKUP
from mechdistill.evals import CHAINS, HIDDEN_TARGET
from mechdistill.stats._effects import FORMED, LAST
from mechdistill.stats._formation import formation_tokens
from mechdistill.stats._matched import matched_pass_at_k
from mechdistill.stats._roles import SPT
from mechdistill.stats._row_gain import low_entropy_ratio, row_gain_slope
from mechdistill.stats._support import support_slope
from mechdistill.stats.claims import (
    DISTINCT,
    LOOKUP,
    LOW_RATIO,
    PASS_1,
    PASS_16,
    PASS_MATCHED,
    ROOM_1,
    ROOM_16,
    ROW_GAIN,
    SUPPORT_SLOPE,
    TOP_GAIN,
    VALID,
)
from mechdistill.tables import (
    CHECK_TABLE,
    CHECKS,
    DIVERSITY,
    INDUCTION_SCORES,
    LATER,
    METRICS_LOG,
    ORDINARY,
    PASS_AT_K,
    ROW_CURVES,
    TEMPERATURE,
    Metric,
    Occurrence,
    last_step,
    metrics,
    pick,
)
from mechdistill.tables.metrics import (
    COPY_ACCURACY,
    COPY_EXCESS,
    FORMATION,
    KL,
    TEACHER_KL,
    TEACHER_MISSING,
    VALID_DISTINCT,
    VALIDITY,
)


class Context(NamedTuple):
    """What some quantities need besides their table."""

    threshold: float | None
    """Copy accuracy from which copying has formed; None: nothing tells."""
    has_triggers: bool
    """Whether there is anything to copy."""
    support: Mapping[int, int]
    """Row -> its number of successors in the world."""
    left_out: list[str]
    """Where to say which runs a quantity could not be had of, and why."""


Compute = Callable[[pd.DataFrame, Context], pd.DataFrame]
"""A table whose arms are roles -> columns arm, seed, value."""


class Quantity(NamedTuple):
    """From which table it is computed, and how."""

    table: str
    compute: Compute


def quantities(needed: Iterable[str], tables: Mapping[str, pd.DataFrame], context: Context) -> pd.DataFrame:
    """Columns role, seed, quantity, value of the quantities that can be computed from the tables that are there.

    In `tables`, by name, the column `arm` says which role a run plays. A quantity that a run lacks gives no row; nor
    does one that is not finite, which `context.left_out` then says.
    """
    parts: list[pd.DataFrame] = []
    for name in dict.fromkeys(needed):
        quantity = QUANTITIES[name]
        table = tables.get(quantity.table)
        if table is not None and len(table):
            found = quantity.compute(table, context)
            if len(found):
                parts.append(found[["arm", "seed", "value"]].assign(quantity=name))
    if not parts:
        return pd.DataFrame(columns=["role", "seed", "quantity", "value"])
    every = pd.concat(parts, ignore_index=True).rename(columns={"arm": "role"}).astype({"value": "float64"})
    infinite = every[~np.isfinite(every["value"])]
    context.left_out.extend(
        f"{row['role']}, seed {row['seed']}: {row['quantity']} is {row['value']}" for row in infinite.to_dict("records")
    )
    return every.drop(infinite.index).reset_index(drop=True)


def _last(metric: Metric, occurrence: Occurrence | None = None) -> Quantity:
    """A metric at the last step that has it: at the start for a teacher that never changes."""
    return Quantity(METRICS_LOG.name, lambda log, _: last_step(pick(log, metric, occurrence)))


def _formation(column: str) -> Quantity:
    """A column of `formation_steps`, in tokens."""

    def compute(log: pd.DataFrame, context: Context) -> pd.DataFrame:
        curves = pick(log, COPY_ACCURACY, LATER)
        if curves.empty or context.threshold is None:
            return pd.DataFrame()
        times = formation_tokens(curves, context.threshold)
        return times.assign(value=times[column].astype("float64"))

    return Quantity(METRICS_LOG.name, compute)


def _best_head(scores: pd.DataFrame, _: Context) -> pd.DataFrame:
    found = last_step(scores[scores["metric"] == TRIGGER_LOOKUP.name])
    return found.groupby(["arm", "seed"])["value"].max().reset_index()


def _of_pairs(by_seed: Callable[[pd.DataFrame, str, Context], Mapping[int, float | None]]) -> Quantity:
    """A number a pair of twins, of every role beside the SPT twin: from `row-curves`."""

    def compute(curves: pd.DataFrame, context: Context) -> pd.DataFrame:
        roles = set(curves["arm"])
        rows = [
            {"arm": role, "seed": seed, "value": value}
            for role in sorted(roles - {SPT.name})
            for seed, value in (by_seed(curves, role, context) if SPT.name in roles else {}).items()
            if value is not None
        ]
        return pd.DataFrame(rows, columns=["arm", "seed", "value"])

    return Quantity(ROW_CURVES.name, compute)


def _gain(name: str) -> Quantity:
    """A field of `RowGain`."""
    return _of_pairs(
        lambda curves, role, _: {
            seed: getattr(found, name) for seed, found in row_gain_slope(curves, role, SPT.name).items()
        }
    )


def _support_slope(curves: pd.DataFrame, role: str, context: Context) -> dict[int, float | None]:
    """nan where rows of some size never get there: a slope over the others would be another quantity."""
    slopes = support_slope(curves, context.support, role, SPT.name)
    return {seed: np.nan if found.censored else found.slope for seed, found in slopes.items()}


def _task(context: Context) -> str:
    return CHAINS if context.has_triggers else HIDDEN_TARGET


def _passed(k: int) -> Quantity:
    """pass@k at temperature 1, exact."""
    return Quantity(PASS_AT_K.name, lambda table, context: _at(table, metrics.PASS_AT_K, k, context))


def _room(k: int) -> Quantity:
    """The regret: how far below the best possible."""
    return Quantity(PASS_AT_K.name, lambda table, context: _at(table, metrics.REGRET, k, context))


def _at(table: pd.DataFrame, metric: Metric, k: int, context: Context) -> pd.DataFrame:
    chosen = (table["task"] == _task(context)) & (table["k"] == k) & (table[TEMPERATURE.name] == 1) & table["exact"]
    return table[chosen & (table["metric"] == metric.name)]


def _matched(table: pd.DataFrame, context: Context) -> pd.DataFrame:
    """pass@16 where pass@1 is that of the SPT twin."""
    if SPT.name not in set(table["arm"]):
        return pd.DataFrame()
    found = matched_pass_at_k(table, SPT.name, task=_task(context), k=16)
    context.left_out.extend(found.left_out)
    return found.values


def _diversity(metric: Metric, n: int | None = None) -> Quantity:
    """At temperature 1."""

    def compute(table: pd.DataFrame, _: Context) -> pd.DataFrame:
        chosen = (table["metric"] == metric.name) & (table[TEMPERATURE.name] == 1)
        return table[chosen & (table["n"].isna() if n is None else table["n"] == n)]

    return Quantity(DIVERSITY.name, compute)


def _check(name: str) -> Quantity:
    return Quantity(CHECK_TABLE.name, lambda checks, _: checks[checks["check"] == name])


QUANTITIES: dict[str, Quantity] = {
    COPY_EXCESS.name: _last(COPY_EXCESS, LATER),
    KL.name: _last(KL, ORDINARY),
    TEACHER_KL.name: _last(TEACHER_KL, ORDINARY),
    TEACHER_MISSING.name: _last(TEACHER_MISSING),
    FORMATION.name: _formation("step"),
    FORMED: _formation("formed"),
    LAST: _formation("last"),
    LOOKUP: Quantity(INDUCTION_SCORES.name, _best_head),
    ROW_GAIN: _gain("slope"),
    TOP_GAIN: _gain("gain"),
    LOW_RATIO: _of_pairs(lambda curves, role, _: low_entropy_ratio(curves, role, SPT.name)),
    SUPPORT_SLOPE: _of_pairs(_support_slope),
    PASS_1: _passed(1),
    PASS_16: _passed(16),
    ROOM_1: _room(1),
    ROOM_16: _room(16),
    PASS_MATCHED: Quantity(PASS_AT_K.name, _matched),
    DISTINCT: _diversity(VALID_DISTINCT, 2),
    VALID: _diversity(VALIDITY),
    **{name: _check(name) for name in CHECKS},
}
"""By name."""
