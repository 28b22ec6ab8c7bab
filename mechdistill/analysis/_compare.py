"""Comparing arms over seeds: what each run came to, and `stats.compare_twins` on it, twin by twin.

`compare(experiment)` is `mechdistill compare DIR`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mechdistill import arguments, stats
from mechdistill.analysis._arms import arms
from mechdistill.errors import MechdistillError, quoted
from mechdistill.runs import Experiment, Run
from mechdistill.tables import LATER, OUTCOMES, last_step, metrics, pick, with_arms


def compare(
    first: Experiment, second: Experiment | None = None, *, baseline: str | None = None, formed: float | None = None
) -> pd.DataFrame:
    """Every arm against the baseline, seed by seed: the `compare` table (see `stats.compare_twins`).

    Values are those of finished runs at their last evaluation, on held-out sequences (`OUTCOMES`, nats but for the
    accuracy), and `formation-tokens`: predictions trained on until copy accuracy at occurrence >= 2 stays at or above
    `formed` for three evaluations. `formed` is half-way between the no-matching baseline and 1 unless given; a run
    that has not formed by the horizon counts as the horizon. Branches of a trunk have no formation of their own.

    The baseline is the arm `spt`, or the first that does not distil. With a second experiment each arm is compared
    with the arm of the same name in the first one. Arms in another sandbox than their baseline are left out with a
    warning. Raises MechdistillError where nothing can be compared.
    """
    _check(first, second, baseline, formed)
    if second is not None:
        return _between(first, second, formed)
    runs = _finished(first)
    baseline = _usual_baseline(first) if baseline is None else baseline
    there = sorted({run.config.treatment for run in runs})
    if baseline not in there:
        known = ", ".join(there) or "none"
        raise MechdistillError(
            f"baseline={quoted(baseline)}: no finished run of that arm in {first.path}; there are: {known}"
        )
    world = next(run.config.sandbox for run in runs if run.config.treatment == baseline)
    same = [run for run in runs if run.config.sandbox == world]
    _left_out({run.config.treatment for run in runs if run not in same}, f"in another sandbox than {baseline}")
    if len({run.config.treatment for run in same}) < 2:
        raise MechdistillError(f"{first.path}: only {baseline} has finished runs in its sandbox; train another arm")
    table = _compare(outcomes([(run.config.treatment, run) for run in same], formed), baseline)
    return with_arms(table, arms(first))


def _check(first: Any, second: Any, baseline: Any, formed: Any) -> None:
    for name, given in (("first", first), ("second", second)):
        if not isinstance(given, Experiment) and not (name == "second" and given is None):
            raise MechdistillError(f"{name}={quoted(given)}: must be an experiment, as md.load(path) gives it")
    if second is not None and baseline is not None:
        raise MechdistillError(
            f"baseline={quoted(baseline)}: two experiments are compared arm by arm; give one of the two"
        )
    if baseline is not None:
        arguments.instance(baseline, "baseline", str, "must be the name of an arm")
    if formed is not None:
        arguments.share(formed, "formed")


def outcomes(runs: Sequence[tuple[str, Run]], formed: float | None = None) -> pd.DataFrame:
    """What runs, given with their arms' names, came to: columns arm, seed, metric, value, as described in `compare`."""
    named = [run.metrics().assign(arm=arm, run=f"{arm}/{run.config.seed}") for arm, run in runs]
    log = pd.concat(named, ignore_index=True).astype({"arm": "string"})
    last = last_step(log)
    tables = [
        pick(last, outcome.metric, outcome.occurrence).assign(metric=outcome.name)[["arm", "seed", "metric", "value"]]
        for outcome in OUTCOMES.values()
    ]
    whole = {f"{arm}/{run.config.seed}" for arm, run in runs if run.config.branch is None}
    curves = pick(log[log["run"].isin(whole)], metrics.COPY_ACCURACY, LATER)
    if len(curves):
        baseline = float(pick(log, metrics.NO_MATCHING, LATER)["value"].mean())
        threshold = (1 + baseline) / 2 if formed is None else formed
        # tokens instead of steps: arms may differ in batch size
        formation = stats.formation_steps(curves.drop(columns="step").rename(columns={"tokens": "step"}), threshold)
        horizon = int(curves.groupby("run")["tokens"].max().min())
        tables.append(stats.restricted_steps(formation, horizon).assign(metric=metrics.FORMATION.name))
    return pd.concat(tables, ignore_index=True)


def _compare(values: pd.DataFrame, baseline: str) -> pd.DataFrame:
    measured = set(values["metric"])
    return stats.compare_twins(
        values,
        baseline,
        [outcome.name for outcome in OUTCOMES.values() if outcome.primary and outcome.name in measured],
    )


def _between(first: Experiment, second: Experiment, formed: float | None) -> pd.DataFrame:
    """Arms of the second experiment against those of the same name in the first."""
    ours, theirs = _finished(first), _finished(second)
    there = {run.config.treatment for run in ours}
    shared = [arm for arm in dict.fromkeys(run.config.treatment for run in theirs) if arm in there]
    tables: list[pd.DataFrame] = []
    for arm in shared:
        pair = [
            (f"{e.path}:{arm}", run)
            for e, runs in ((first, ours), (second, theirs))
            for run in runs
            if run.config.treatment == arm
        ]
        if len({run.config.sandbox.model_dump_json() for _, run in pair}) > 1:
            _left_out({arm}, "in different sandboxes")
        else:
            tables.append(_compare(outcomes(pair, formed), pair[0][0]))
    if not tables:
        raise MechdistillError(f"{first.path} and {second.path}: no arm with finished runs in both, in one sandbox")
    table = pd.concat(tables, ignore_index=True)
    primaries = [outcome.name for outcome in OUTCOMES.values() if outcome.primary]
    return table.assign(p_holm=stats.holm(table["p"].where(table["metric"].isin(primaries))))


def _finished(experiment: Experiment) -> list[Run]:
    students = [run for run in experiment.runs if not run.config.is_teacher]
    done = [run for run in students if run.status["state"] == "finished"]
    if len(done) < len(students):
        warnings.warn(f"{experiment.path}: {len(students) - len(done)} runs are not finished, left out", stacklevel=4)
    return done


def _left_out(arms: set[str], why: str) -> None:
    if arms:
        warnings.warn(f"left out: {', '.join(sorted(arms))} ({why})", stacklevel=4)


def _usual_baseline(experiment: Experiment) -> str:
    arms = experiment.config.arms
    return "spt" if "spt" in arms else next((name for name, arm in arms.items() if not arm.distils), next(iter(arms)))
