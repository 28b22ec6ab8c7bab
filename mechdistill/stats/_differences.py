"""Whether one treatment changes what another one does: a difference of differences over four runs a seed."""

from typing import NamedTuple

import pandas as pd

from mechdistill.errors import MechdistillError
from mechdistill.stats._compare import compare_twins
from mechdistill.stats._twins import by_seed, require_arm, students


class Contrast(NamedTuple):
    """An arm minus its baseline; prints as 'arm - baseline'."""

    arm: str
    baseline: str

    def __str__(self) -> str:
        return f"{self.arm} - {self.baseline}"


def difference_in_differences(values: pd.DataFrame, first: Contrast, second: Contrast) -> pd.DataFrame:
    """(arm - baseline) of `first` minus (arm - baseline) of `second`, seed by seed: rows like `compare_twins` makes.

    `values` has columns arm, seed, metric, value, one row a run and metric. Per seed d = (a - b) - (c - d'), in the
    unit of the metric; statistics are those of `paired` over seeds, at 95 %. 0 where the second treatment does not
    change what the first does; p is then uniform. A seed that lacks any of the four runs is left out. The columns arm
    and baseline name the two contrasts.

    Raises MechdistillError for an arm without runs, two equal contrasts, a run with two values of one metric, and a
    value that is not finite.
    """
    if first == second:
        raise MechdistillError(f"second={second}: equals first, and differs from it in nothing; name another pair")
    for arm in (*first, *second):
        require_arm(values, arm)
    parts: list[pd.DataFrame] = []
    for metric, of_metric in students(values).groupby("metric", sort=False):
        wide = by_seed(of_metric)
        for contrast in (first, second):
            if {*contrast} <= set(wide):
                difference = (wide[contrast.arm] - wide[contrast.baseline]).dropna()
                about = {"arm": str(contrast), "metric": metric}
                parts.append(difference.rename("value").reset_index().assign(**about))
    return compare_twins(pd.concat(parts, ignore_index=True), str(second))
