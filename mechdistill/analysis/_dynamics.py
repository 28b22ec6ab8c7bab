"""When each part of a circuit forms, in an experiment: the curves of its runs, and `stats` on them.

`dynamics(experiment)` is `mechdistill dynamics DIR`.
"""

import warnings
from typing import Any, NamedTuple

import pandas as pd

from mechdistill import arguments, stats
from mechdistill.ambient import neutral
from mechdistill.analysis._account import USED, beside, entries, left_out
from mechdistill.analysis._apply import measured
from mechdistill.analysis._arms import arms
from mechdistill.analysis._compare import usual_baseline
from mechdistill.analysis._threshold import formation_threshold
from mechdistill.circuits.scores import MARGIN, PREVIOUS_AFTER_TRIGGER, TRIGGER_LOOKUP
from mechdistill.errors import MechdistillError, quoted
from mechdistill.runs import Experiment, Run
from mechdistill.tables import (
    DYNAMICS_TWINS,
    EARLY_WARNING,
    INDUCTION_SCORES,
    LATER,
    RUN_COLUMNS,
    frame,
    metrics,
    pick,
    with_arms,
)

PARTS = (PREVIOUS_AFTER_TRIGGER.name, TRIGGER_LOOKUP.name, metrics.COPY_ACCURACY.name)
"""Of the copy circuit, in the order in which they use each other: its two halves, and what they are for."""

_COLUMNS = [*(column.name for column in RUN_COLUMNS), "metric", "value"]


class Dynamics(NamedTuple):
    """The three tables of an experiment's dynamics."""

    runs: pd.DataFrame
    """`dynamics`: one row a run and part."""
    twins: pd.DataFrame
    """`dynamics-twins`: every arm minus its baseline."""
    warning: pd.DataFrame
    """`early-warning`: what predicts the formation of copying."""
    left_out: list[str]
    """What is in none of them, a line a reason."""


@neutral()
def dynamics(target: Run | Experiment, *, formed: float | None = None, beyond: float | None = None) -> pd.DataFrame:
    """When each part of every run forms, how fast it rises, and which comes first: the `dynamics` table.

    The parts are all scores of heads and of pairs of heads at every checkpoint, and copy accuracy at occurrence >= 2 at
    every evaluation. A score's curve is `strongest`: at each checkpoint, of the head or pair that is furthest beyond
    its null. It has formed at `beyond` above the null, for three checkpoints; unless that is given, at half of the
    run's own last value, if that is at least .1 in the score's unit: of attention, the margin by which a head stands
    out. Copy accuracy has formed at `formed`, half-way from a baseline to the oracle's unless given
    (`formation_threshold`). See `stats.dynamics` for steps, rise times, order and lead. Nothing is finer than the
    checkpoints, of which bursts give more; whether it has formed is decided at the regular ones: `before` says since
    when it can have formed.

    Finished runs of students, in one sandbox; what is left out is said in a warning. Raises `MechdistillError` where
    nothing is left.
    """
    return _said(all_dynamics(target, formed=formed, beyond=beyond)).runs


@neutral()
def compare_dynamics(
    experiment: Experiment, *, baseline: str | None = None, formed: float | None = None, beyond: float | None = None
) -> pd.DataFrame:
    """Formation step, rise time and lead of every part, arm minus baseline over twins: the `dynamics-twins` table.

    What they are says `dynamics`; the statistics are those of `stats.compare_dynamics`, in steps. The baseline is the
    arm `spt`, or the first that does not distil. Arms that take more or fewer tokens a step than it are left out.
    """
    arguments.instance(experiment, "experiment", Experiment, _LOAD)
    return _said(all_dynamics(experiment, baseline=baseline, formed=formed, beyond=beyond)).twins


@neutral()
def early_warning(experiment: Experiment, *, formed: float | None = None) -> pd.DataFrame:
    """Which score at 10, 20 and 30 % of training predicts when copying forms in unseen seeds: `early-warning`.

    Each seed is predicted by a line through the other seeds of its arm, and held against their mean; it takes 4 seeds
    (see `stats.early_warning`). Predictors and what is predicted are those of `dynamics`.
    """
    arguments.instance(experiment, "experiment", Experiment, _LOAD)
    return _said(all_dynamics(experiment, formed=formed)).warning


_LOAD = "must be an experiment, as md.load(path) gives it"


def _said(found: Dynamics) -> Dynamics:
    for line in found.left_out:
        warnings.warn(line, stacklevel=4)
    return found


@neutral()
def all_dynamics(
    target: Any,
    *,
    baseline: str | None = None,
    formed: float | None = None,
    beyond: float | None = None,
    fresh: bool = False,
) -> Dynamics:
    """The three tables, and what is in none of them; `fresh` ignores cached scores."""
    if not isinstance(target, Run | Experiment):
        raise MechdistillError(f"target={quoted(target)}: must be a run or an experiment, as md.load(path) gives it")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # runs without heads or an end: the account says it of all
        scores = measured(INDUCTION_SCORES.name)(target, "all", fresh=fresh)
    runs = [target] if isinstance(target, Run) else [run for run in target.runs if run.steps]
    log = pd.concat([run.metrics() for run in runs], ignore_index=True)
    return dynamics_of(target, scores, log, baseline=baseline, formed=formed, beyond=beyond)


def dynamics_of(
    target: Run | Experiment,
    scores: pd.DataFrame,
    log: pd.DataFrame,
    *,
    baseline: str | None = None,
    formed: float | None = None,
    beyond: float | None = None,
) -> Dynamics:
    """The three tables, of `induction-scores` of all checkpoints and the `metrics` log of the target's runs."""
    if formed is not None:
        arguments.share(formed, "formed")
    if beyond is not None and not arguments.share(beyond, "beyond") > 0:
        raise MechdistillError(f"beyond={beyond}: must be above 0; what is at its null has not formed")
    runs, lines = _finished(target, baseline)
    named = [run.name for run in runs]  # in the order of the experiment
    curves = pd.concat([strongest(scores), copying(log)], ignore_index=True)
    curves = pd.concat([curves[curves["run"] == name] for name in named], ignore_index=True)
    curves = curves.assign(added=_added(runs, curves))
    thresholds = {} if beyond is None else {str(name): beyond for name in scores["metric"].unique()}
    accuracy = formation_threshold(runs[0].sandbox) if formed is None and len(copying(log)) else formed
    if accuracy is not None:
        thresholds[metrics.COPY_ACCURACY.name] = accuracy
    else:
        lines.append(
            f"left out: {metrics.COPY_ACCURACY.name} (nothing says when copying has formed; give it by formed)"
        )
        curves = curves[curves["metric"] != metrics.COPY_ACCURACY.name]
    table = stats.dynamics(curves, PARTS, metrics.COPY_ACCURACY.name, thresholds, MARGIN)
    every = arms(target)
    if isinstance(target, Run):
        twins, warning = frame(DYNAMICS_TWINS, []), frame(EARLY_WARNING, [])
    else:
        pace = {run.config.treatment: run.tokens_at(run.steps[-1]) / run.steps[-1] for run in runs}
        asked, baseline = baseline, usual_baseline(target) if baseline is None else baseline
        alike = [arm for arm, tokens in pace.items() if tokens == pace.get(baseline, tokens)]
        lines += [
            f"left out of twins: {arm} takes {pace[arm]:g} tokens a step, {baseline} {pace[baseline]:g}"
            for arm in pace
            if arm not in alike
        ]
        if asked is None and baseline not in pace:
            lines.append(f"left out of twins: all, without a finished run of {baseline}")
            twins = frame(DYNAMICS_TWINS, [])
        else:
            twins = stats.compare_dynamics(table[table["arm"].isin(alike)], baseline, PARTS)
        warning = stats.early_warning(curves, table[table["metric"] == metrics.COPY_ACCURACY.name])
    return Dynamics(with_arms(table, every), with_arms(twins, every), with_arms(warning, every), lines)


def _finished(target: Run | Experiment, baseline: str | None) -> tuple[list[Run], list[str]]:
    """Finished runs of students in the baseline's world that are no branches, and what became of the others."""
    if isinstance(target, Run):
        if baseline is not None:
            raise MechdistillError(f"baseline={quoted(baseline)}: one run has no twins; leave it out")
        if target.config.is_teacher:
            raise MechdistillError(f"{target.path}: is a teacher's training, which is no arm; give a student's run")
        if target.status["state"] != "finished":
            raise MechdistillError(f"{target.path}: is not finished; train it to its end, which says what has formed")
        return [target], []
    found = entries(target)
    baseline = usual_baseline(target) if baseline is None else baseline
    if baseline in {entry.arm for entry in found}:
        found = beside(found, baseline)
    runs = [entry.run for entry in found if entry.use == USED and entry.run is not None]
    whole = [run for run in runs if run.config.branch is None]
    if not whole:
        raise MechdistillError(f"{target.path}: no finished run of a student; train it to its end")
    lines = left_out(found)
    if len(whole) < len(runs):
        lines.append("left out, branches of a trunk: they have no formation of their own")
    return whole, lines


def _added(runs: list[Run], curves: pd.DataFrame) -> pd.Series:
    """Which rows are of checkpoints between the regular ones: at powers of two, early on, and in bursts."""
    every = {run.name: run.config.training.checkpoint_every for run in runs}
    last = {run.name: run.steps[-1] for run in runs}
    steps = zip(curves["run"], curves["step"], strict=True)
    regular = pd.Series([step % every[run] == 0 or step == last[run] for run, step in steps], curves.index, dtype=bool)
    return ~regular & (curves["metric"] != metrics.COPY_ACCURACY.name)


def strongest(scores: pd.DataFrame) -> pd.DataFrame:
    """The curve of every score of heads or pairs in `induction-scores`: how far the furthest one is beyond its null.

    Columns run, arm, seed, step, tokens, metric, value: value - null_mean, the largest over heads at each checkpoint,
    so that it may pass from head to head. A score without a null is held against the same head untrained, and without
    that against chance. Near 0 for an untrained model, a little above where it is the largest of many. Values that are
    not defined are left out, and so are scores of a layer or of the whole model, which no head can be furthest in.
    """
    scores = scores[scores["head"].notna()]
    reference = scores["null_mean"].fillna(scores["untrained"]).fillna(scores["chance"])
    beyond = scores.assign(value=scores["value"] - reference).dropna(subset="value")
    keys = [name for name in _COLUMNS if name != "value"]
    return beyond.groupby(keys, sort=False)["value"].max().reset_index()


def copying(log: pd.DataFrame) -> pd.DataFrame:
    """The curve of copy accuracy at occurrence >= 2 of a `metrics` log, in the same columns."""
    return pick(log, metrics.COPY_ACCURACY, LATER)[_COLUMNS]
