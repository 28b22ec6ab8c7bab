"""How soon each row is learned: tokens until its KL has halved, and how that grows with the row's entropy."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mechdistill.stats._paired import paired
from mechdistill.stats._twins import require_arm, students
from mechdistill.tables import LEARNING_SPEED, frame, metrics

_FEWEST = 3  # rows of a fit


def tokens_to(tokens: npt.ArrayLike, values: npt.ArrayLike, level: float) -> float:
    """Tokens at which a falling curve first comes to `level` > 0; nan where it never does.

    Between two evaluations its logarithm is a straight line in tokens. Both [n], tokens ascending.
    """
    t, v = np.asarray(tokens, dtype=np.float64), np.asarray(values, dtype=np.float64)
    reached = np.flatnonzero(v <= level)
    if not reached.size:
        return math.nan
    i = int(reached[0])
    if i == 0 or v[i] <= 0:
        return float(t[i])
    share = math.log(v[i - 1] / level) / math.log(v[i - 1] / v[i])
    return float(t[i - 1] + share * (t[i] - t[i - 1]))


def learning_speed(row_curves: pd.DataFrame, baseline: str | None) -> pd.DataFrame:
    """The `learning-speed` table of `row-curves` at all checkpoints of students.

    `tokens-to-halve`: of every row and run, tokens until its KL is half of what it is at the first checkpoint (see
    `tokens_to`); null where it never is. `halving-slope`: least squares of log(tokens to halve) on row entropy over
    the rows that get there, log units per nat: 0 where entropy says nothing. Of every run; of every arm, the mean over
    seeds with a 95 % t interval over the seeds' own slopes (at least 3); and of every arm beside `baseline`, the mean
    of paired differences arm - baseline, likewise. A run without 3 such rows of different entropies has no slope.

    Raises `MechdistillError` for a baseline that is not there.
    """
    if baseline is not None:
        require_arm(row_curves, baseline)
    table = students(row_curves)
    curves = table[(table["metric"] == metrics.KL.name) & table["row"].notna()].sort_values("tokens", kind="stable")
    rows: list[dict[str, Any]] = []
    slopes: dict[str, dict[int, float]] = {}
    for (run, arm, seed), of_run in curves.groupby(["run", "arm", "seed"], sort=False):
        number = int(str(seed))
        about = {"run": str(run), "arm": str(arm), "seed": number}
        found: list[dict[str, Any]] = []
        for (row, entropy), curve in of_run.groupby(["row", "row_entropy"]):
            at = tokens_to(curve["tokens"], curve["value"], float(curve["value"].iloc[0]) / 2)
            found.append(metrics.TOKENS_TO_HALVE.row(at, **about, row=row, row_entropy=entropy))
        slope, reached = _slope(found)
        rows += [*found, metrics.HALVING_SLOPE.row(slope, **about, rows=reached, censored=len(found) - reached)]
        if not math.isnan(slope):
            slopes.setdefault(str(arm), {})[number] = slope
    for arm, of_arm in slopes.items():
        rows.append(_over_seeds([*of_arm.values()], arm=arm))
        if baseline in slopes and arm != baseline:
            pairs = [slope - slopes[baseline][seed] for seed, slope in of_arm.items() if seed in slopes[baseline]]
            rows.append(_over_seeds(pairs, arm=arm, baseline=baseline))
    return frame(LEARNING_SPEED, rows)


def _slope(found: list[dict[str, Any]]) -> tuple[float, int]:
    """Of log tokens on entropy, and over how many rows."""
    reached = [(row["row_entropy"], row["value"]) for row in found if row["value"] > 0]
    x = np.array([entropy for entropy, _ in reached], dtype=np.float64)
    if len(x) < _FEWEST or np.ptp(x) == 0:
        return math.nan, len(x)
    y = np.log([tokens for _, tokens in reached])
    return float(np.polyfit(x, y, 1)[0]), len(x)


def _over_seeds(slopes: list[float], **about: Any) -> dict[str, Any]:
    sure = paired(slopes)
    return metrics.HALVING_SLOPE.row(sure.difference, **about, low=sure.low, high=sure.high, p=sure.p, n=sure.n)
