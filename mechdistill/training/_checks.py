"""The manipulation checks of an experiment: who is taught by whom, and who is whose undistilled twin."""

import warnings
from typing import Literal

import pandas as pd

from mechdistill import stats
from mechdistill.config import ExperimentConfig, RoutingConfig, RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from mechdistill.stats import SPT, Candidate, candidates
from mechdistill.tables import CHECK_TABLE, frame

_USUAL = "spt"


def checks(experiment: Experiment) -> pd.DataFrame:
    """The `checks` table of the finished runs that are taught; see `stats.manipulation_checks`.

    A run's undistilled twin is the run of its seed in the arm of plain labels that is like its own in all else (world,
    model, training, tokens); where there is none, in the arm `spt` if that is in the same sandbox, or in the first arm
    there that does not distil. A run that is damaged is left out with a warning that names it; where
    the experiment cannot be opened at all, training has been for something all the same, and the table is empty.
    """
    try:
        runs = experiment.runs
    except MechdistillError as error:
        warnings.warn(f"no manipulation checks: {error}", stacklevel=2)
        return frame(CHECK_TABLE, [])
    among = candidates(experiment.config)
    taught: list[stats.Taught] = []
    logs: list[pd.DataFrame] = []
    for run in runs:
        if run.config.is_teacher:
            continue
        try:
            if run.status["state"] != "finished":
                continue
            logs.append(run.metrics())
        except MechdistillError as error:
            warnings.warn(f"left out of the manipulation checks: {error}", stacklevel=2)
            continue
        if run.config.objective.distils:
            taught.append(_taught(experiment.config, run.config, among))
    return stats.manipulation_checks(pd.concat(logs, ignore_index=True), taught) if taught else frame(CHECK_TABLE, [])


def _taught(experiment: ExperimentConfig, run: RunConfig, among: list[Candidate]) -> stats.Taught:
    assert run.objective.teacher is not None
    routing = run.objective.routing
    kind = None if routing is None else _kind(routing)
    baseline = _baseline(experiment, run, among)
    return stats.Taught(run.treatment, run.seed, run.objective.teacher, baseline, kind)


def _kind(routing: RoutingConfig) -> Literal["informed", "opposite", "blind"]:
    if routing.by.is_random:
        return "blind"
    return "informed" if routing.tail == "low" else "opposite"


def _baseline(experiment: ExperimentConfig, run: RunConfig, among: list[Candidate]) -> str | None:
    """The arm of plain labels that is like a run's own in all but what it is taught; else one in the same world."""
    own = next((one for one in among if one.name == run.treatment), None)
    twin = next((one.name for one in among if own is not None and SPT.fits(one, own)), None)
    plain = [
        name for name, arm in experiment.arms.items() if not arm.distils and experiment.arm_sandbox(name) == run.sandbox
    ]
    return twin or (_USUAL if _USUAL in plain else next(iter(plain), None))
