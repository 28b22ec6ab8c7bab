"""What makes the runs of one arm differ: the outcomes of crossed seeds, split among weights, data and teacher.

`variance_shares(experiment)` is `mechdistill compare DIR --variance`.
"""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from mechdistill import arguments, stats
from mechdistill.ambient import neutral
from mechdistill.analysis._account import entries
from mechdistill.analysis._arms import arms
from mechdistill.analysis._compare import outcomes
from mechdistill.analysis._threshold import formation_threshold
from mechdistill.config import FACTORS, CrossedSeeds, RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run
from mechdistill.tables import LATER, VARIANCE, frame, metrics, pick, with_arms

REST = "rest"


@neutral()
def variance_shares(experiment: Experiment, *, formed: float | None = None) -> pd.DataFrame:
    """The `variance-shares` table of an experiment with crossed seeds: for each arm and outcome, a row a factor.

    Outcomes are those of `compare`, of single arms: values at the last evaluation, and tokens until copying has formed
    (`formed` as there), where a run that has not counts as the shortest budget of its arm. Shares are those of
    `stats.variance_shares`, in [0, 1]; their sum is 1. Factors are the kinds of seeds that vary; those of one level say
    nothing. An arm whose runs are not all finished is left out with a warning.

    Raises MechdistillError where seeds are not crossed, a factor has two levels, fewer than two vary, or no arm has
    finished.
    """
    arguments.instance(experiment, "experiment", Experiment, "must be an experiment, as md.load(path) gives it")
    if formed is not None:
        arguments.share(formed, "formed")
    factors = _factors(experiment)
    rows: list[dict[str, Any]] = []
    found = [entry for entry in entries(experiment) if entry.config.branch is None]
    for arm in dict.fromkeys(entry.arm for entry in found):
        mine = [entry for entry in found if entry.arm == arm]
        runs = [entry.run for entry in mine if entry.run is not None]
        if len(runs) < len(mine):
            lacking = len(mine) - len(runs)
            warnings.warn(f"left out: {arm}, {lacking} of its {len(mine)} runs not finished", stacklevel=2)
        else:
            rows += _of_arm(arm, runs, factors, formed)
    if not rows:
        raise MechdistillError(f"{experiment.path}: no arm has finished with all of its seeds; train it to the end")
    return with_arms(frame(VARIANCE, rows), arms(experiment))


def _factors(experiment: Experiment) -> list[str]:
    """The kinds of seeds that vary."""
    seeds = experiment.config.seeds
    if not isinstance(seeds, CrossedSeeds):
        raise MechdistillError(
            f"{experiment.path}: its seeds are not crossed, so that nothing tells weights from data; train with seeds "
            "like {init: 0-5, data: 0-5}"
        )
    varied = {factor: len(seeds.levels(factor)) for factor in FACTORS if len(seeds.levels(factor)) > 1}
    few = [factor for factor, levels in varied.items() if levels < stats.MIN_LEVELS]
    if few:
        raise MechdistillError(f"seeds.{few[0]}: has {varied[few[0]]} levels; must have at least {stats.MIN_LEVELS}")
    if len(varied) < 2:
        raise MechdistillError(f"{experiment.path}: fewer than two kinds of seeds vary; cross one more (init, data)")
    return list(varied)


def _of_arm(arm: str, runs: list[Run], factors: list[str], formed: float | None) -> list[dict[str, Any]]:
    values = outcomes([(arm, run) for run in runs])
    tables = [(name, part.set_index("seed")["value"], {}) for name, part in values.groupby("metric", sort=False)]
    formation = _formation(arm, runs, formed)
    if formation is not None:
        tables.append(formation)
    rows: list[dict[str, Any]] = []
    for name, by_seed, about in tables:
        row = {"metric": name, "arm": arm, "n": len(runs), **about}
        crossing = _crossing({run.config.seed: run.config for run in runs}, by_seed, factors)
        for part in stats.variance_shares(crossing):
            rows.append(
                {
                    **row,
                    **{key: value for key, value in part._asdict().items() if key != "axis"},
                    "factor": REST if part.axis is None else factors[part.axis],
                    "levels": None if part.axis is None else crossing.shape[part.axis],
                    "note": "all runs are equal" if np.isnan(part.share) else None,
                }
            )
    return rows


def _formation(
    arm: str, runs: list[Run], formed: float | None
) -> "tuple[str, pd.Series[float], dict[str, Any]] | None":
    """Tokens until copying formed by seed, at most the horizon, and what there is to say of it; None: never defined."""
    log = pd.concat([run.metrics() for run in runs], ignore_index=True)
    curves = pick(log, metrics.COPY_ACCURACY, LATER).assign(arm=arm)
    threshold = formation_threshold(runs[0].sandbox) if formed is None else formed
    if curves.empty or threshold is None:
        return None
    times = stats.formation_tokens(curves, threshold)
    horizon = int(times["last"].min())
    late = int((~times["formed"] | (times["step"] > horizon)).sum())
    values = stats.restricted_steps(times, horizon).set_index("seed")["value"]
    return metrics.FORMATION.name, values, {"threshold": threshold, "horizon": horizon, "censored": late}


def _crossing(configs: dict[int, RunConfig], values: "pd.Series[float]", factors: list[str]) -> stats.Values:
    """The values as an array, an axis a factor."""
    keys = pd.DataFrame({factor: {seed: _level(c, factor) for seed, c in configs.items()} for factor in factors})
    cells = values.groupby([keys[factor].reindex(values.index) for factor in factors]).first()
    shape = [keys[factor].nunique() for factor in factors]
    return np.asarray(cells, dtype=np.float64).reshape(shape)


def _level(config: RunConfig, factor: str) -> int:
    return {"init": config.init_seed, "data": config.data_seed, "teacher": config.taught_by}[factor]
