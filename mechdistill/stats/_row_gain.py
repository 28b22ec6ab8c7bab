"""What distilling does to rows of high and of low entropy: one number a seed, of `row-curves` tables of twins."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from mechdistill.errors import MechdistillError
from mechdistill.stats._twins import require_arm
from mechdistill.tables import Metric, metrics

ROUNDING = 1e-7
"""Nats: a row's KL up to here is rounding of float32 laws, and its logarithm means nothing."""
LOW_ENTROPY = 0.1
"""Nats, up to which a row is as good as deterministic."""
_FEWEST = 4  # rows, one more than the fit has coefficients


class RowGain(NamedTuple):
    """Of one pair of twins."""

    slope: float
    """Of log(KL of the baseline / KL of the arm) on row entropy, given visits; 0: no row gains more than another."""
    gain: float
    """Mean KL of the baseline over that of the arm in the quartile of highest entropy; 1: nothing gained."""


def row_gain_slope(row_curves: pd.DataFrame, arm: str, baseline: str) -> dict[int, RowGain]:
    """Whether an arm learns high-entropy rows faster than its twin: seed -> `RowGain`, of all seeds that both have.

    At the last tokens that both have a table of: least squares of log(KL_baseline / KL_arm) on 1, row entropy (nats)
    and log visits (`positions`), over rows in which both KLs are beyond rounding (1e-7 nats). Slope per nat, any sign,
    0 without an effect of entropy; gain > 0, 1 without an effect, by means over positions. nan with fewer than 4 such
    rows, or where all have one entropy. Raises `MechdistillError` for an arm that is not there.
    Source: claim C1 of arXiv 2509.01649.
    """
    found: dict[int, RowGain] = {}
    for seed, rows in _by_seed(row_curves, arm, baseline):
        fit = rows[(rows["arm"] > ROUNDING) & (rows["baseline"] > ROUNDING)]
        log_ratio = np.log(fit["baseline"].to_numpy(float) / fit["arm"].to_numpy(float))
        given = [np.ones(len(fit)), fit["row_entropy"].to_numpy(float), np.log(fit["visits"].to_numpy(float))]
        enough = len(fit) >= _FEWEST and np.ptp(given[1]) > 0
        slope = float(np.linalg.lstsq(np.column_stack(given), log_ratio, rcond=None)[0][1]) if enough else np.nan
        top = rows[rows["bucket"] == rows["bucket"].max()]
        found[seed] = RowGain(slope, _ratio(top.rename(columns={"arm": "baseline", "baseline": "arm"})))
    return found


def low_entropy_ratio(
    row_curves: pd.DataFrame, arm: str, baseline: str, most: float = LOW_ENTROPY
) -> dict[int, float | None]:
    """Mean KL of an arm over that of its twin in rows of entropy up to `most` nats: seed -> ratio, > 0.

    At the last tokens that both have a table of, by means over positions; 1: no difference. None where no row is so
    predictable. Raises `MechdistillError` for an arm that is not there. Source: claim C2 of arXiv 2509.01649.
    """
    found: dict[int, float | None] = {}
    for seed, rows in _by_seed(row_curves, arm, baseline):
        low = rows[rows["row_entropy"] <= most]
        found[seed] = _ratio(low) if len(low) else None
    return found


def same_tokens(row_curves: pd.DataFrame, metric: Metric, arm: str, baseline: str) -> pd.DataFrame:
    """A metric of ordinary rows of twins side by side, at all tokens that both have.

    Columns seed, tokens, row, row_entropy, bucket, visits (`positions`), arm and baseline (the metric's values in
    either). Raises `MechdistillError` for an arm that is not there, and for twins without common tokens.
    """
    require_arm(row_curves, arm)
    require_arm(row_curves, baseline)
    rows = row_curves[row_curves["row"].notna()]
    keys = ["seed", "tokens", "row"]
    about = [*keys, "row_entropy", "bucket"]

    def of(name: str, metric: Metric, value: str) -> pd.DataFrame:
        part = rows[(rows["arm"] == name) & (rows["metric"] == metric.name)]
        return part[[*about, "value"]].rename(columns={"value": value}).astype({value: float})

    ours, twins = of(arm, metric, "arm"), of(baseline, metric, "baseline")[[*keys, "baseline"]]
    visits = of(baseline, metrics.POSITIONS, "visits")[[*keys, "visits"]]
    both = ours.merge(twins, on=keys, validate="one_to_one").merge(visits, on=keys, validate="one_to_one")
    if both.empty:
        raise MechdistillError(f"arms '{arm}' and '{baseline}': no seed and checkpoint that both have; train both")
    return both


def _by_seed(row_curves: pd.DataFrame, arm: str, baseline: str) -> Iterator[tuple[int, pd.DataFrame]]:
    """Twins at the last tokens that both have."""
    both = same_tokens(row_curves, metrics.KL, arm, baseline)
    last = both[both["tokens"] == both.groupby("seed")["tokens"].transform("max")]
    return ((int(seed), last[last["seed"] == seed]) for seed in last["seed"].unique())


def _ratio(rows: pd.DataFrame) -> float:
    """Arm over baseline, of means over positions."""
    below = float((rows["baseline"] * rows["visits"]).sum())
    return float((rows["arm"] * rows["visits"]).sum()) / below if below > 0 else np.nan
