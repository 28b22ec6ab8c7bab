"""When each part of a circuit forms, how fast it rises, and which part comes first: run by run, and between twins."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mechdistill.stats._compare import compare_formation, compare_twins
from mechdistill.stats._formation import formation_steps
from mechdistill.stats._holm import holm
from mechdistill.stats._twins import require_arm, require_one_finite_value, students
from mechdistill.tables import DYNAMICS, DYNAMICS_TWINS, frame

CROSSING, RISE, LEAD = "crossing", "rise", "lead"
_FROM, _TO = 0.1, 0.9


def rise_time(steps: npt.ArrayLike, values: npt.ArrayLike) -> float:
    """Steps in which `values` [n], at rising `steps` [n], go from 10 % to 90 % of the way from the first to the last.

    It ends where the curve first reaches 90 %, and begins where it last left 10 % before; between evaluations the curve
    is taken as straight, so that nothing shorter than their distance is resolved. A logistic curve of rate r takes
    2·ln(9)/r, an even rise over T steps .8·T. > 0, in the unit of `steps`; nan for a curve that does not end above its
    beginning. Source: the rise time of control engineering (IEC 60050-351).
    """
    at, curve = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if len(curve) < 2 or not curve[-1] > curve[0]:
        return float("nan")
    low, high = curve[0] + np.array([_FROM, _TO]) * (curve[-1] - curve[0])
    end = int(np.argmax(curve >= high))
    below = np.flatnonzero(curve[: end + 1] < low)
    begin = int(below[-1]) + 1 if len(below) else 0  # so small a rise that rounding leaves nothing below
    return _crossing(at, curve, end, high) - _crossing(at, curve, begin, low)


def _crossing(at: npt.NDArray[Any], curve: npt.NDArray[np.float64], i: int, level: float) -> float:
    """Where the straight line from evaluation i-1, below the level, to evaluation i passes it, or evaluation 0."""
    if i == 0:
        return float(at[0])
    return float(at[i - 1] + (at[i] - at[i - 1]) * (level - curve[i - 1]) / (curve[i] - curve[i - 1]))


def dynamics(
    curves: pd.DataFrame, parts: Sequence[str], target: str, thresholds: Mapping[str, float], least: float
) -> pd.DataFrame:
    """The `dynamics` table: formation step, rise time and order of every part (metric) of every student run.

    `curves`: columns run, arm, seed, metric, step, tokens, value, one row a run, metric and evaluation; `added`, if it
    is there, says which lie between the regular ones, as in bursts. Those only refine: what has formed is decided by
    the others, so that three evaluations are as long in every run, and where added ones lie between the one that says
    so and the one before, the step is the first of them from which on the value stays at the threshold. A metric in
    `thresholds` has formed by the rule of `formation_steps` at that value. Any other has at half of its own last value,
    whatever other runs come to, if that is at least `least`: half of nothing would be noise. Rise times are those of
    `rise_time`. `crossing` lies in (before, step]: where the straight line between these evaluations passes the
    threshold, which is finer than the step, and comparable where metrics are evaluated at different steps. `order` is
    the place by crossing among `parts` in the run, and `lead` how many steps before `target` another metric crosses:
    both hang on no other metric that happens to be measured.

    There is no chance level: a part that an untrained model has would form at step 0.

    Raises MechdistillError for a value that is not finite, and for two values of one evaluation.
    """
    curves = students(curves)
    require_one_finite_value(curves, "metric", "run", "step")
    rows: list[dict[str, Any]] = []
    for _, of_metric in curves.groupby("metric", sort=False):
        for run, curve in of_metric.groupby("run", sort=False):
            rows.append(_formed(str(run), curve.sort_values("step"), thresholds, least))
    table = frame(DYNAMICS, rows)
    formed = table[table["formed"]]
    order = formed[formed["metric"].isin(list(parts))].groupby("run")[CROSSING].rank(method="min")
    arrived = formed[formed["metric"] == target].set_index("run")[CROSSING]
    table["order"] = order.reindex(table.index).astype("Int64")
    table[LEAD] = (arrived.reindex(formed["run"]).to_numpy() - formed[CROSSING])[formed["metric"] != target].reindex(
        table.index
    )
    return table


def _formed(run: str, curve: pd.DataFrame, thresholds: Mapping[str, float], least: float) -> dict[str, Any]:
    """One part of one run."""
    values, steps = curve["value"].to_numpy(dtype=np.float64), curve["step"].to_numpy(dtype=np.int64)
    metric, last = str(curve["metric"].iloc[0]), float(values[-1])
    threshold = thresholds.get(metric, last / 2 if last >= least else None)
    found: Mapping[Any, Any] = {"formed": False, "step": int(steps[-1])}
    if threshold is not None:
        added = curve["added"].to_numpy(dtype=bool) if "added" in curve else np.zeros(len(curve), dtype=bool)
        found = formation_steps(curve[~added], threshold).iloc[0].to_dict()
        if found["formed"]:
            found["step"] = _refined(steps, values, added, int(found["step"]), threshold)
    formed = bool(found["formed"])
    earlier = steps[steps < found["step"]] if formed else steps[:0]
    return {
        "run": run,
        "arm": str(curve["arm"].iloc[0]),
        "seed": int(curve["seed"].iloc[0]),
        "metric": metric,
        "formed": formed,
        "step": int(found["step"]),
        "tokens": int(curve["tokens"].to_numpy()[steps == found["step"]][0]),
        "before": int(earlier[-1]) if len(earlier) else None,
        CROSSING: _crossing(steps, values, len(earlier), threshold) if formed and threshold is not None else None,
        "threshold": threshold,
        "end": last,
        RISE: rise_time(steps, values) if formed else None,
        "last": int(steps[-1]),
    }


def _refined(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64], added: npt.NDArray[np.bool_], step: int, level: float
) -> int:
    """The first step from which on all evaluations up to `step` that were added are at the level, or `step`."""
    at = int(np.flatnonzero(steps == step)[0])
    while at > 0 and added[at - 1] and values[at - 1] >= level:
        at -= 1
    return int(steps[at])


def compare_dynamics(table: pd.DataFrame, baseline: str, parts: Sequence[str]) -> pd.DataFrame:
    """A `dynamics` table, arm minus baseline over twins: crossing, rise time and lead of every part.

    Crossings as in `compare_formation`: followed up to a horizon of the pair's own, at which a run that has not
    formed counts. Rise times and leads as in `compare_twins`, over pairs in which both twins have one. No effect: 0.
    `p_holm` is over the crossings of `parts`, the question that is asked; a rise or a lead is a description.
    Steps have to mean the same in both: give arms that take as many tokens a step.

    Raises MechdistillError for a baseline without runs.
    """
    require_arm(table, baseline)
    table = students(table)
    arms = [arm for arm in dict.fromkeys(table["arm"]) if arm != baseline]
    found: list[pd.DataFrame] = []
    for metric, of_part in table.groupby("metric", sort=False):
        times = of_part.assign(step=of_part[CROSSING].fillna(of_part["step"].astype("float64")))
        found.append(compare_formation(times, baseline, arms).assign(what=CROSSING, metric=metric))
        for what in (RISE, LEAD):
            values = of_part.assign(value=of_part[what].astype("Float64")).dropna(subset="value")
            if baseline in set(values["arm"]):
                found.append(compare_twins(values, baseline, []).assign(what=what))
    rows: list[Any] = pd.concat(found, ignore_index=True).to_dict("records")
    twins = frame(DYNAMICS_TWINS, rows)
    asked = (twins["what"] == CROSSING) & twins["metric"].isin(list(parts))
    return twins.assign(p_holm=holm(twins["p"].fillna(1.0).where(asked)))
