"""pass@k compared where it is no question of temperature: each run at the one at which its pass@1 is its twin's."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mechdistill.arguments import whole
from mechdistill.errors import MechdistillError, did_you_mean
from mechdistill.stats._twins import require_arm, require_one_finite_value, students
from mechdistill.tables import TEMPERATURE, last_step, metrics


class Matched(NamedTuple):
    """pass@k of every run at its baseline twin's pass@1."""

    values: pd.DataFrame
    """Columns arm, seed, metric, value, as `compare_twins` takes them; and the temperature that matches."""
    left_out: list[str]
    """Runs without a value, each with the reason."""


def matched_pass_at_k(table: pd.DataFrame, baseline: str, *, task: str, k: int = 16) -> Matched:
    """pass@k of each run at the temperature where its pass@1 equals that of its twin in `baseline` at temperature 1.

    `table` is a `pass-at-k` table of an experiment; of each run the last step, and what is exact, counts. Between two
    neighbouring temperatures of the sweep both pass@k and the temperature are linear in pass@1. Where several pairs
    have the twin's pass@1 between them, the one that gives the temperature nearest to 1 (on a log scale) is taken. A
    baseline run is its own twin, at temperature 1. Values are in [0, 1]; an arm that only sharpens or flattens what its
    twin knows differs by 0 up to the interpolation. Teachers' own runs never enter. A run whose sweep does not reach
    the twin's pass@1, or that has no twin, is left out and named.

    Raises `MechdistillError` for a baseline without runs, a task or k that is not in the table, k below 2, a sweep
    without temperature 1, and two values at one temperature.
    """
    k = whole(k, "k", 2)
    require_arm(table, baseline)
    rows = students(table)
    rows = last_step(rows[(rows["metric"] == metrics.PASS_AT_K.name) & rows["exact"]])
    for name, value, known in (("task", task, set(rows["task"])), ("k", k, {str(k) for k in rows["k"]})):
        if str(value) not in known:
            raise MechdistillError(f"{name}={value}: not in this table; {did_you_mean(str(value), known)}")
    sweeps: dict[tuple[str, int], _Sweep] = {}
    for run, sweep in rows[rows["task"] == task].groupby("run", sort=False):
        arm, seed = str(sweep["arm"].iloc[0]), int(sweep["seed"].iloc[0])
        sweeps[arm, seed] = _sweep(str(run), sweep, k, must_have_one=arm == baseline)
    found: list[dict[str, Any]] = []
    left_out: list[str] = []
    for (arm, seed), sweep in sweeps.items():
        twin = sweeps.get((baseline, seed))
        if twin is None:
            left_out.append(f"{arm}, seed {seed}: no run of {baseline} with this seed")
            continue
        goal = float(twin.one[twin.temperature == 1][0])
        at = _at(sweep, goal) if arm != baseline else _At(1.0, float(twin.many[twin.temperature == 1][0]))
        if at is None:
            reached = f"{sweep.one.min():.4g} to {sweep.one.max():.4g}"
            left_out.append(f"{arm}, seed {seed}: pass@1 from {reached} over temperatures, its twin's is {goal:.4g}")
            continue
        about = {"arm": arm, "seed": seed, TEMPERATURE.name: at.temperature}
        found.append(metrics.PASS_AT_K.row(at.value, **about))
    columns = ["arm", "seed", "metric", "value", TEMPERATURE.name]
    return Matched(pd.DataFrame(found, columns=columns), left_out)


class _Sweep(NamedTuple):
    """One run over temperatures, in their order."""

    temperature: NDArray[np.float64]
    one: NDArray[np.float64]  # pass@1
    many: NDArray[np.float64]  # pass@k


class _At(NamedTuple):
    temperature: float
    value: float


def _sweep(run: str, sweep: pd.DataFrame, k: int, *, must_have_one: bool) -> _Sweep:
    chosen = sweep[sweep["k"].isin([1, k])]
    require_one_finite_value(chosen, "run", "k", TEMPERATURE.name)
    wide = chosen.pivot(index=TEMPERATURE.name, columns="k", values="value").dropna().sort_index()
    temperature = wide.index.to_numpy(dtype=np.float64)
    if wide.empty or (must_have_one and 1.0 not in temperature):
        at = " at temperature 1" * must_have_one
        raise MechdistillError(f"{run}: has no pass@1 and pass@{k}{at}; measure it with `pass-at-k`")
    return _Sweep(temperature, wide[1].to_numpy(dtype=np.float64), wide[k].to_numpy(dtype=np.float64))


def _at(sweep: _Sweep, goal: float) -> _At | None:
    """Where pass@1 is the goal, on the straight lines between neighbours; None where it is nowhere."""
    found: list[_At] = []
    for i in range(len(sweep.one)):
        if sweep.one[i] == goal:
            found.append(_At(float(sweep.temperature[i]), float(sweep.many[i])))
        elif i + 1 < len(sweep.one) and (sweep.one[i] - goal) * (sweep.one[i + 1] - goal) < 0:
            share = (goal - sweep.one[i]) / (sweep.one[i + 1] - sweep.one[i])
            temperature, value = (float(v[i] + share * (v[i + 1] - v[i])) for v in (sweep.temperature, sweep.many))
            found.append(_At(temperature, value))
    return min(found, key=lambda at: abs(np.log(at.temperature)), default=None)
