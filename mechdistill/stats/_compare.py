"""Every arm against its baseline, twin by twin: the `compare` table."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mechdistill.errors import MechdistillError, did_you_mean
from mechdistill.stats._holm import holm
from mechdistill.stats._paired import MIN_PAIRS, Paired, bca, paired
from mechdistill.stats._restricted import restricted_steps
from mechdistill.stats._twins import by_seed, require_arm, students
from mechdistill.tables import COMPARISON, frame
from mechdistill.tables.metrics import FORMATION


def compare_twins(values: pd.DataFrame, baseline: str, primaries: Sequence[str] | None = None) -> pd.DataFrame:
    """The `compare` table: arm minus baseline over twins, for every arm and metric of `values`.

    `values` has columns arm, seed, metric, value, one row a run and metric. Twins share a seed; a seed that only one
    of the two arms has is left out, and n says how many pairs there are. A metric that the arm and the baseline both
    lack gives no row, nor does one that either lacks, unless it is primary: then n is 0. Rows of teachers' own
    training never enter. Statistics are those of `paired` and `bca`, at 95 %. `p_holm` is as in `adjusted`, over
    primary metrics × arms, by default over all of them; no effect: difference 0, p uniform in [0, 1].

    Raises MechdistillError for a baseline without runs, a primary metric that is not there, a run with two values of
    one metric, and a value that is not finite.
    """
    require_arm(values, baseline)
    values = students(values)
    metrics = list(values["metric"].unique())
    for metric in primaries or ():
        if metric not in metrics:
            raise MechdistillError(f"primary metric '{metric}': not measured; {did_you_mean(metric, metrics)}")
    primary = set(metrics if primaries is None else primaries)
    arms = [arm for arm in values["arm"].unique() if arm != baseline]
    rows: list[dict[str, Any]] = []
    for metric in metrics:
        wide = by_seed(values[values["metric"] == metric])
        for arm in arms:
            lacking = [name for name in (arm, baseline) if name not in wide]
            if not lacking:
                rows.append(_row(metric, arm, baseline, (wide[arm] - wide[baseline]).dropna().to_numpy()))
            elif len(lacking) == 1 and metric in primary:
                rows.append(_row(metric, arm, baseline, []) | {"note": f"not measured in {lacking[0]}"})
    return adjusted(frame(COMPARISON, rows), sorted(primary))


def compare_formation(
    formation: pd.DataFrame, baseline: str, arms: Iterable[str], threshold: float | None = None
) -> pd.DataFrame:
    """The rows of the `compare` table about formation times, in the unit of `step`, from a `formation_steps` table.

    An arm and the baseline are followed up to a horizon of their own: the smallest `last` over the runs of their
    pairs, so that other arms and seeds change nothing. Values are min(formation time, horizon); `censored` and
    `baseline_censored` count the runs that had not formed by then. Where all of them are, nothing formed, and there is
    no difference. Where only the arm or only the baseline has runs here, n is 0; where neither has, there is no row.
    `threshold` is shown as it is given; p is not adjusted yet.
    """
    runs = students(formation)
    rows = [_formation_row(runs, arm, baseline) for arm in arms if {arm, baseline} & set(runs["arm"])]
    return frame(COMPARISON, [row | {"threshold": threshold} for row in rows])


def _formation_row(runs: pd.DataFrame, arm: str, baseline: str) -> dict[str, Any]:
    both = runs[runs["arm"].isin([arm, baseline])]
    lacking = [name for name in (arm, baseline) if name not in set(both["arm"])]
    both = both[both.groupby("seed")["arm"].transform("nunique") == 2]
    nothing = _row(FORMATION.name, arm, baseline, [])
    if both.empty:
        return nothing | {"note": f"not measured in {lacking[0]}"} if lacking else nothing
    horizon = int(both["last"].min())
    late = both[~both["formed"] | (both["step"] > horizon)]
    followed = {
        "horizon": horizon,
        "censored": int((late["arm"] == arm).sum()),
        "baseline_censored": int((late["arm"] == baseline).sum()),
    }
    if len(late) == len(both):
        note = f"nothing formed in either arm by {horizon} {FORMATION.unit}"
        return nothing | followed | {"n": both["seed"].nunique(), "note": note}
    wide = by_seed(restricted_steps(both, horizon))
    return _row(FORMATION.name, arm, baseline, (wide[arm] - wide[baseline]).to_numpy()) | followed


def adjusted(table: pd.DataFrame, primaries: Sequence[str]) -> pd.DataFrame:
    """A `compare` table with `p_holm` over the rows of the primary metrics, null elsewhere.

    A primary question without a p (too few pairs, nothing formed, not measured) was asked all the same: it counts with
    p = 1, so that losing runs never makes the other questions easier.
    """
    asked = table["metric"].isin(list(primaries))
    return table.assign(p_holm=holm(table["p"].fillna(1.0).where(asked)))


def _row(metric: str, arm: str, baseline: str, differences: npt.ArrayLike) -> dict[str, Any]:
    differences = np.asarray(differences, dtype=np.float64)
    result, bootstrap = paired(differences), bca(differences)
    about = {"metric": metric, "arm": arm, "baseline": baseline, "note": _note(result)}
    return about | result._asdict() | {"bca_low": bootstrap.low, "bca_high": bootstrap.high}


def _note(result: Paired) -> str | None:
    if result.n < MIN_PAIRS:
        return f"fewer than {MIN_PAIRS} pairs: no interval"
    if pd.isna(result.p):
        return "the same difference in every pair: no interval"
    return None
