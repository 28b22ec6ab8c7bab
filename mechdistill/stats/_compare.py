"""Every arm against its baseline, twin by twin: the `compare` table."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mechdistill.errors import MechdistillError, did_you_mean
from mechdistill.stats._holm import holm
from mechdistill.stats._paired import MIN_PAIRS, Paired, bca, paired
from mechdistill.stats._twins import by_seed, require_arm, students
from mechdistill.tables import COMPARISON, frame


def compare_twins(values: pd.DataFrame, baseline: str, primaries: Sequence[str] | None = None) -> pd.DataFrame:
    """The `compare` table: arm minus baseline over twins, for every arm and metric of `values`.

    `values` has columns arm, seed, metric, value, one row a run and metric. Twins share a seed; a seed that only one
    of the two arms has is left out, and n says how many pairs there are. A metric that the arm or the baseline does
    not have at all gives no row; rows of teachers' own training never enter. Statistics are those of `paired` and
    `bca`, at 95 %. `p_holm` adjusts p over primary metrics × arms, by default over all of them, and is null elsewhere;
    no effect: difference 0, p uniform in [0, 1].

    Raises MechdistillError for a baseline without runs, a primary metric that is not there, a run with two values of
    one metric, and a value that is not finite.
    """
    require_arm(values, baseline)
    values = students(values)
    metrics = list(values["metric"].unique())
    for metric in primaries or ():
        if metric not in metrics:
            raise MechdistillError(f"primary metric '{metric}': not measured; {did_you_mean(metric, metrics)}")
    arms = [arm for arm in values["arm"].unique() if arm != baseline]
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        wide = by_seed(values[values["metric"] == metric])
        for arm in arms:
            if {arm, baseline} <= set(wide.columns):
                differences = (wide[arm] - wide[baseline]).dropna().to_numpy()
                result, bootstrap = paired(differences), bca(differences)
                about = {"metric": metric, "arm": arm, "baseline": baseline, "note": _note(result)}
                rows.append(about | result._asdict() | {"bca_low": bootstrap.low, "bca_high": bootstrap.high})
    table = frame(COMPARISON, rows)
    primary = table["metric"].isin(metrics if primaries is None else list(primaries))
    return table.assign(p_holm=holm(table["p"].where(primary)))


def _note(result: Paired) -> str | None:
    if result.n < MIN_PAIRS:
        return f"fewer than {MIN_PAIRS} pairs: no interval"
    if pd.isna(result.p):
        return "the same difference in every pair: no interval"
    return None
