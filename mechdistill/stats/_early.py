"""Early warning: which value, early in training, says when copying will form in a seed that was not looked at."""

from collections.abc import Sequence
from itertools import permutations
from math import factorial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mechdistill.stats._holm import holm
from mechdistill.stats._twins import students
from mechdistill.tables import EARLY_WARNING, frame

MIN_SEEDS = 4  # a line through the other three has one degree of freedom left
SHARES = (0.1, 0.2, 0.3)
_DEALS = 2000
_ROUNDING = 1e-9
_SAME = 1e-6  # scores are of the order of 1, in float32, and differences of such


def held_out_predictions(x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Each y [n] as the least-squares line y ~ x through the other n-1 says it; `x` is [..., n], and so is the result.

    Where the others do not differ in x, by more than scores are rounded, there is no slope, and the mean of the others
    is what is left.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    others = np.stack([np.delete(np.arange(len(y)), i) for i in range(len(y))])
    x_of, y_of = x[..., others], y[others]  # [..., n, n-1]
    x_mean, y_mean = x_of.mean(axis=-1), y_of.mean(axis=-1)
    dx = x_of - x_mean[..., None]
    spread = (dx**2).sum(axis=-1)
    flat = spread <= (_SAME * np.maximum(1, np.abs(x_of).max(axis=-1))) ** 2
    slope = np.where(flat, 0.0, (dx * y_of).sum(axis=-1) / np.where(flat, 1.0, spread))
    return y_mean + slope * (x - x_mean)


def early_warning(curves: pd.DataFrame, formation: pd.DataFrame, shares: Sequence[float] = SHARES) -> pd.DataFrame:
    """The `early-warning` table: for every arm, metric of `curves` and share of training, how well it predicts.

    `curves` as in `dynamics`; `formation`: the rows of a `dynamics` table of what is predicted, the crossing. The
    predictor is a run's value at the last evaluation not after `share` of training that all seeds have: one that only
    some have, as bursts add them, would tell by being there. Each seed's crossing is said by the line through the other
    seeds of its arm (`held_out_predictions`), and, as the baseline, by their mean. Errors are means over seeds of
    |said - true|, in steps, where what is said is taken into [0, last evaluation]; skill = 1 - error/baseline_error, at
    most 1. A predictor that knows nothing has a skill below 0, since a line of no use costs something, the more the
    fewer seeds: `by_chance` is its mean, over the deals that p is made of. p is the share of ways to deal the seeds'
    values out among them whose error is no larger (all n! up to n = 6, else 2000 at random and the one that is):
    uniform for such a predictor, and never below 1/n!.

    A run that does not form counts as the last evaluation that all runs of its arm have. Fewer than 4 seeds, or seeds
    that all form at one step, get no prediction, and a note that says so. An association over seeds is no cause.
    """
    curves, formation = students(curves), students(formation)
    rows: list[dict[str, Any]] = []
    for arm, runs in formation.groupby("arm", sort=False):
        horizon = int(runs["last"].min())
        target = runs.set_index("seed")[["crossing", "last", "formed"]]
        own = curves[curves["arm"] == arm]
        made: list[dict[str, Any]] = []
        for metric, of_metric in own.groupby("metric", sort=False):
            made += [_row(str(arm), str(metric), share, of_metric, target, horizon) for share in shares]
        adjusted = holm([row.get("p", np.nan) for row in made])
        rows += [row | {"p_holm": float(p)} for row, p in zip(made, adjusted, strict=True)]
    return frame(EARLY_WARNING, rows)


def _row(
    arm: str, metric: str, share: float, curves: pd.DataFrame, target: pd.DataFrame, horizon: int
) -> dict[str, Any]:
    of_all = curves.groupby("step")["seed"].nunique() == curves["seed"].nunique()
    shared = of_all.index[of_all & (of_all.index <= share * horizon)]
    early = curves[curves["step"] == shared.max()].set_index("seed")
    both = target.join(early[["step", "value"]], how="inner").sort_index()
    formed = both["formed"] & (both["crossing"] <= horizon)
    seen, steps = both["step"], both["crossing"].where(formed, horizon)
    about: dict[str, Any] = {
        "arm": arm,
        "metric": metric,
        "share": share,
        "seen": int(seen.max()) if len(both) else None,
        "n": len(both),
        "already": int((formed & (both["crossing"] <= seen)).sum()),
        "censored": int((~formed).sum()),
    }
    if len(both) < MIN_SEEDS:
        return about | {"note": f"fewer than {MIN_SEEDS} seeds: no prediction"}
    x, y = both["value"].to_numpy(dtype=np.float64), steps.to_numpy(dtype=np.float64)
    baseline = _errors(np.zeros_like(y), y, horizon)
    if baseline == 0:
        return about | {"note": "every seed forms at the same step, or none does: nothing to predict"}
    error, dealt = _errors(x, y, horizon), _errors(x[_deals(len(y))], y, horizon)
    return about | {
        "error": float(error),
        "baseline_error": float(baseline),
        "skill": float(1 - error / baseline),
        "by_chance": float(1 - dealt.mean() / baseline),
        "p": float((dealt <= error + _ROUNDING * baseline).mean()),
    }


def _errors(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], horizon: int) -> npt.NDArray[np.float64]:
    return np.abs(held_out_predictions(x, y).clip(0, horizon) - y).mean(axis=-1)


def _deals(n: int) -> npt.NDArray[np.int64]:
    """Ways to deal n values out, the one that is among them."""
    if factorial(n) <= _DEALS:
        return np.array(list(permutations(range(n))))
    rng = np.random.default_rng(0)
    return np.stack([np.arange(n), *(rng.permutation(n) for _ in range(_DEALS))])
