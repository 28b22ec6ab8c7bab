"""What a treatment changes under one condition beyond what it changes under another, like a clamp and its control."""

import warnings
from typing import Any

import pandas as pd

from mechdistill import arguments, stats
from mechdistill.ambient import neutral
from mechdistill.analysis._account import entries, left_out
from mechdistill.analysis._compare import outcomes
from mechdistill.analysis._threshold import formation_threshold
from mechdistill.errors import MechdistillError, quoted
from mechdistill.runs import Experiment, Run
from mechdistill.stats import Contrast
from mechdistill.tables import LATER, metrics, pick


@neutral()
def difference_in_differences(
    experiment: Experiment, first: tuple[str, str], second: tuple[str, str], *, formed: float | None = None
) -> pd.DataFrame:
    """(arm - baseline) of `first` minus that of `second`, seed by seed: a `compare` table whose arms are contrasts.

    Values are those of `compare`: what finished runs came to at their last evaluation, and `formation-tokens`, in [0,
    horizon], where all four arms are followed up to one horizon, the smallest budget of their runs; a run that has not
    formed by then counts as the horizon, and there is no row where none has. `formed` as in `compare`. Only seeds with
    all four runs finished count, n of the `expected`; what is left out is said in a warning. No effect: difference 0, p
    uniform in [0, 1]; p_holm is over the rows. With clamps, ("dpt-90-previous", "spt-previous") against
    ("dpt-90-wrong", "spt-wrong") is what distillation changes where a head attends rightly, beyond what it changes
    where it attends wrongly.

    Raises MechdistillError for what is no pair of arms, an arm without finished runs, arms in several sandboxes, and
    where no seed has all four. Source: Singh et al. 2024 for the clamps.
    """
    if not isinstance(experiment, Experiment):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MechdistillError(f"experiment={quoted(experiment)}: must be an experiment, as md.load(path) gives it")
    contrasts = [_contrast(name, pair) for name, pair in (("first", first), ("second", second))]
    if formed is not None:
        arguments.share(formed, "formed")
    runs = _complete(experiment, [arm for contrast in contrasts for arm in contrast])
    values = outcomes(runs)
    times = _formation(runs, formed)
    table = stats.difference_in_differences(pd.concat([values, times], ignore_index=True), contrasts[0], contrasts[1])
    return table.assign(expected=pd.array([len(experiment.config.combinations)] * len(table), dtype="Int64"))


def _contrast(name: str, pair: Any) -> Contrast:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(arm, str) for arm in pair):
        raise MechdistillError(f"{name}={quoted(pair)}: must be two arms, like ('dpt-90', 'spt')")
    contrast = Contrast(*pair)
    if contrast.arm == contrast.baseline:
        raise MechdistillError(f"{name}={quoted(pair)}: must be two arms, not one twice")
    return contrast


def _complete(experiment: Experiment, arms: list[str]) -> list[tuple[str, Run]]:
    """The finished runs of the seeds that have all of these arms, with their arms' names."""
    found = {(e.arm, e.seed): e.run for e in entries(experiment) if e.run is not None and e.arm in arms}
    for arm in arms:
        if arm not in {name for name, _ in found}:
            there = ", ".join(sorted({e.arm for e in entries(experiment) if e.run is not None})) or "none"
            raise MechdistillError(f"arm '{arm}': no finished run in {experiment.path}; there are: {there}")
    seeds = {seed for _, seed in found if all((arm, seed) in found for arm in arms)}
    if not seeds:
        raise MechdistillError(f"{experiment.path}: no seed has finished runs of {', '.join(arms)}; train them")
    for line in left_out(entry for entry in entries(experiment) if entry.arm in arms):
        warnings.warn(line, stacklevel=4)
    runs = [(arm, run) for (arm, seed), run in found.items() if seed in seeds]
    if any(run.config.sandbox != runs[0][1].config.sandbox for _, run in runs):
        raise MechdistillError(f"{', '.join(arms)}: live in several sandboxes; name arms in one")
    return runs


def _formation(runs: list[tuple[str, Run]], formed: float | None) -> pd.DataFrame:
    """min(formation, horizon) of each run, in tokens; no row where none has formed, or nothing tells when."""
    threshold = formation_threshold(runs[0][1].sandbox) if formed is None else formed
    log = pd.concat([run.metrics().assign(arm=arm) for arm, run in runs], ignore_index=True)
    curves = pick(log, metrics.COPY_ACCURACY, LATER)
    if curves.empty or threshold is None:
        return pd.DataFrame()
    times = stats.formation_tokens(curves, threshold)
    horizon = int(times["last"].min())
    if not (times["formed"] & (times["step"] <= horizon)).any():
        return pd.DataFrame()
    return stats.restricted_steps(times, horizon).assign(metric=metrics.FORMATION.name)
