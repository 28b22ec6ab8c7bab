"""When a circuit has formed: the first of three consecutive evaluations at or past a threshold."""

from typing import Any

import numpy as np
import pandas as pd

from mechdistill.stats._twins import require_one_finite_value

CONSECUTIVE = 3


def formation_steps(curves: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Formation step of every run in `curves`: one row a run and evaluation, with columns arm, seed, step, value.

    Returns arm, seed, step, formed, last, one row a run. `step` (optimiser steps) is the first of three consecutive
    evaluations with value >= threshold; a run that never gets there is *censored*: formed is False and step its last
    evaluation, after which it may still form. For a measure that falls, negate values and threshold. A run past the
    threshold at its last evaluations, but not at three, is censored too: its step is then exact up to one evaluation.
    `last` is the last evaluation of any run: how far it was followed.

    There is no chance level: choose a threshold that an untrained run does not reach.

    Raises MechdistillError for a value that is not finite, and for two values of one evaluation.
    """
    require_one_finite_value(curves, "arm", "seed", "step")
    runs: list[dict[str, Any]] = []
    for (arm, seed), run in curves.sort_values("step").groupby(["arm", "seed"], sort=False):
        steps = run["step"].to_numpy(dtype=np.int64)
        past = run["value"].to_numpy(dtype=np.float64) >= threshold
        starts = [i for i in range(len(past) - CONSECUTIVE + 1) if past[i : i + CONSECUTIVE].all()]
        step = steps[starts[0]] if starts else steps[-1]
        runs.append({"arm": arm, "seed": seed, "step": int(step), "formed": bool(starts), "last": int(steps[-1])})
    table = pd.DataFrame(runs, columns=["arm", "seed", "step", "formed", "last"])
    return table.astype({"arm": "string", "seed": "Int64", "step": "Int64", "formed": "boolean", "last": "Int64"})


def formation_tokens(curves: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """`formation_steps` with tokens in the place of steps, since arms may differ in batch size."""
    return formation_steps(curves.drop(columns="step").rename(columns={"tokens": "step"}), threshold)
