"""Formation times up to a horizon, min(T, horizon): means that censored runs do not bias."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mechdistill.errors import MechdistillError
from mechdistill.stats._ratio import Ratio, ratio_of_means
from mechdistill.stats._twins import by_seed, require_arm, students

METRIC = "restricted-formation-step"


def restricted_steps(formation: pd.DataFrame, horizon: float) -> pd.DataFrame:
    """min(formation step, horizon) of every student run of a `formation_steps` table, ready for `compare`.

    Returns arm, seed, metric, value (optimiser steps, in [0, horizon]; horizon = not formed by then). Where every run
    is followed to the horizon these values are fully observed, so differences between twins are ordinary numbers.

    Raises MechdistillError for a run that had not formed when it ended before the horizon: counting it as formed, as
    never formed, or leaving it out would each bias the mean.
    """
    runs = students(formation)
    short = runs[~runs["formed"] & (runs["step"] < horizon)].sort_values("step")
    if len(short):
        run = short.iloc[0]
        raise MechdistillError(
            f"horizon={horizon:g}: arm '{run['arm']}', seed {run['seed']} had not formed when last evaluated at step"
            f" {run['step']}; choose a horizon of at most {run['step']}, or train it for longer"
        )
    values = runs["step"].astype("float64").clip(upper=horizon)
    return runs[["arm", "seed"]].assign(metric=METRIC, value=values).reset_index(drop=True)


def formation_ratio(formation: pd.DataFrame, arm: str, baseline: str, horizon: float, level: float = 0.95) -> Ratio:
    """How many times longer `arm` takes to form than its twins in `baseline`, in restricted mean formation time.

    mean min(T_arm, horizon) / mean min(T_baseline, horizon) over seeds in both, with Fieller's interval (see
    `ratio_of_means`); 1 where the arm changes nothing. It is a ratio of times *up to the horizon*: a run that had not
    formed by then counts as the horizon, and another horizon asks another question.

    Raises MechdistillError for an arm without runs and as `restricted_steps` does, for the two arms.
    """
    for name in (arm, baseline):
        require_arm(formation, name)
    runs = restricted_steps(formation[formation["arm"].isin([arm, baseline])], horizon)
    pairs = by_seed(runs)[[arm, baseline]].dropna()
    return ratio_of_means(pairs[arm].to_numpy(), pairs[baseline].to_numpy(), level)


def restricted_mean(times: npt.ArrayLike, observed: npt.ArrayLike, horizon: float) -> float:
    """Mean of min(T, horizon) when some runs ended early: the area under the Kaplan-Meier curve up to the horizon.

    `times` [n] >= 0 are formation times where `observed` [n], and else the times at which runs ended without having
    formed, for reasons that have nothing to do with forming. In [0, horizon], in the unit of times; horizon = no run
    formed. Without early ends it is exactly mean(min(times, horizon)).

    Raises MechdistillError if the longest run is censored before the horizon: the curve beyond it is unknown.
    Sources: Kaplan & Meier 1958; Royston & Parmar 2013; scipy.stats.ecdf.
    """
    times, observed = np.asarray(times, dtype=np.float64), np.asarray(observed, dtype=np.bool_)
    last = times.max()
    if last < horizon and not observed[times == last].all():
        raise MechdistillError(
            f"horizon={horizon:g}: no run was followed that far; choose a horizon of at most {last:g}"
        )
    survival = stats.ecdf(stats.CensoredData.right_censored(times, ~observed)).sf
    edges = np.concatenate(([0.0], np.unique(times[(times > 0) & (times < horizon)]), [horizon]))
    return float(survival.evaluate(edges[:-1]) @ np.diff(edges))
