"""Comparing arms over seeds: what each run came to, and `stats.compare_twins` on it, twin by twin.

`compare(experiment)` is `mechdistill compare DIR`.
"""

import warnings
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from mechdistill import arguments, stats
from mechdistill.ambient import neutral
from mechdistill.analysis._account import (
    NO_NAMESAKE,
    NO_TWIN,
    OTHER_SANDBOX,
    USED,
    Entry,
    beside,
    entries,
    leaving_out,
    left_out,
)
from mechdistill.analysis._arms import arms
from mechdistill.analysis._threshold import formation_threshold
from mechdistill.errors import MechdistillError, quoted
from mechdistill.runs import Experiment, Run
from mechdistill.tables import COMPARISON, LATER, OUTCOMES, frame, last_step, metrics, pick, with_arms


class Comparison(NamedTuple):
    """A `compare` table, and in words what became of every run that the experiments name."""

    table: pd.DataFrame
    used: int
    """Runs that are in a pair."""
    named: int
    """Runs of students that the experiment files name."""
    left_out: list[str]
    """The rest: a line a reason."""


@neutral()
def compare(
    first: Experiment, second: Experiment | None = None, *, baseline: str | None = None, formed: float | None = None
) -> pd.DataFrame:
    """Every arm against the baseline, seed by seed: the `compare` table (see `stats.compare_twins`).

    Values are those of finished runs at their last evaluation, on held-out sequences (`OUTCOMES`, nats but for the
    accuracy), and `formation-tokens`: predictions trained on until copy accuracy at occurrence >= 2 stays at or above
    `formed` for three evaluations. `formed` is half-way between a baseline and the oracle's accuracy unless given (see
    `formation_threshold`). A run that has not formed by the horizon, the smallest budget of its pair of arms, counts as
    the horizon (see `stats.compare_formation`). Branches of a trunk have no formation of their own.

    The baseline is the arm `spt`, or the first that does not distil. With a second experiment each arm is compared
    with the arm of the same name in the first one. Every run that the experiment files name is used or left out with a
    warning: not finished, missing, in another sandbox than its baseline, without a twin. Raises MechdistillError where
    nothing can be compared.
    """
    result = compared(first, second, baseline=baseline, formed=formed)
    for line in result.left_out:
        warnings.warn(line, stacklevel=2)
    return result.table


def compared(
    first: Experiment, second: Experiment | None = None, *, baseline: str | None = None, formed: float | None = None
) -> Comparison:
    """What `compare` gives, with the account of all runs beside it in place of warnings."""
    _check(first, second, baseline, formed)
    if second is not None:
        return _between(first, second, formed)
    found = _within(first, baseline, formed)
    return found._replace(table=with_arms(found.table, arms(first)))


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


def _within(experiment: Experiment, baseline: str | None, formed: float | None) -> Comparison:
    """Every arm of an experiment against its baseline."""
    baseline = usual_baseline(experiment) if baseline is None else baseline
    found = entries(experiment)
    finished = sorted({entry.arm for entry in found if entry.use == USED})
    if baseline not in finished:
        raise MechdistillError(
            f"baseline={quoted(baseline)}: no finished run of that arm in {experiment.path}; "
            f"there are: {', '.join(finished) or 'none'}"
        )
    found = beside(found, baseline)
    if {entry.arm for entry in found if entry.use == USED} == {baseline}:
        lines = "".join(f"; {line}" for line in left_out(found))
        raise MechdistillError(
            f"{experiment.path}: only {baseline} has finished runs beside it; train another arm, or name another "
            f"baseline{lines}"
        )
    ours = {entry.seed for entry in found if entry.arm == baseline and entry.use == USED}
    theirs = {entry.seed for entry in found if entry.arm != baseline and entry.use == USED}
    runs = [(entry.arm, entry.run) for entry in found if entry.run is not None]
    found = leaving_out(
        found,
        NO_TWIN,
        lambda entry: entry.use == USED and entry.seed not in (theirs if entry.arm == baseline else ours),
    )
    table = _compare(runs, baseline, formed).assign(expected=len(experiment.config.combinations))
    return Comparison(table, *_counted(found), left_out(found))


def _between(first: Experiment, second: Experiment, formed: float | None) -> Comparison:
    """Arms of the second experiment against those of the same name in the first."""
    sides = [entries(first), entries(second)]
    arms = [{entry.arm for entry in side} for side in sides]
    shared = [arm for arm in dict.fromkeys(entry.arm for entry in sides[1]) if arm in arms[0]]
    found = [leaving_out(side, NO_NAMESAKE, lambda entry: entry.arm not in shared) for side in sides]
    tables: list[pd.DataFrame] = []
    for arm in shared:
        pair = [[entry for entry in side if entry.arm == arm] for side in found]
        if pair[0][0].config.sandbox != pair[1][0].config.sandbox:
            found = [leaving_out(side, OTHER_SANDBOX, _of(arm)) for side in found]
            continue
        names = [f"{_shown(experiment.path)}:{arm}" for experiment in (first, second)]
        runs = [(name, e.run) for name, side in zip(names, pair, strict=True) for e in side if e.run is not None]
        if len({name for name, _ in runs}) == len(names):
            asked = {entry.seed for entry in pair[0]} & {entry.seed for entry in pair[1]}
            tables.append(_compare(runs, names[0], formed).assign(expected=len(asked)))
        done = [{entry.seed for entry in side if entry.use == USED} for side in pair]
        found = [leaving_out(side, NO_TWIN, _of(arm, but=done[0] & done[1])) for side in found]
    if not tables:
        lines = "".join(f"; {line}" for side in found for line in left_out(side))
        raise MechdistillError(
            f"{first.path} and {second.path}: no arm with finished runs in both, in one sandbox{lines}"
        )
    table = stats.adjusted(pd.concat(tables, ignore_index=True), _primaries())
    lines = [
        f"{_shown(experiment.path)}: {line}"
        for experiment, side in zip((first, second), found, strict=True)
        for line in left_out(side)
    ]
    return Comparison(table, *_counted([*found[0], *found[1]]), lines)


def _of(arm: str, but: Set[int] = frozenset()) -> Callable[[Entry], bool]:
    """Whether an entry is a used one of the arm, of another seed than some."""
    return lambda entry: entry.arm == arm and entry.use == USED and entry.seed not in but


def _counted(found: Sequence[Entry]) -> tuple[int, int]:
    return sum(entry.use == USED for entry in found), len(found)


def outcomes(runs: Sequence[tuple[str, Run]]) -> pd.DataFrame:
    """What runs, given with their arms' names, came to at their last evaluation: columns arm, seed, metric, value."""
    last = last_step(_log(runs))
    tables = [
        pick(last, outcome.metric, outcome.occurrence).assign(metric=outcome.name)[["arm", "seed", "metric", "value"]]
        for outcome in OUTCOMES.values()
    ]
    return pd.concat(tables, ignore_index=True)


def _log(runs: Sequence[tuple[str, Run]]) -> pd.DataFrame:
    """The inline metrics of runs, under the arms' names."""
    named = [run.metrics().assign(arm=arm, run=f"{arm}/{run.config.seed}") for arm, run in runs]
    return pd.concat(named, ignore_index=True).astype({"arm": "string"})


def _compare(runs: Sequence[tuple[str, Run]], baseline: str, formed: float | None) -> pd.DataFrame:
    """The table of runs in one sandbox."""
    values = outcomes(runs)
    measured = set(values["metric"])
    table = stats.compare_twins(values, baseline, [name for name in _primaries() if name in measured])
    arms = [arm for arm in dict.fromkeys(arm for arm, _ in runs) if arm != baseline]
    rows = _formation([(arm, run) for arm, run in runs if run.config.branch is None], baseline, arms, formed)
    return stats.adjusted(pd.concat([table, rows], ignore_index=True), _primaries())


def _formation(
    runs: Sequence[tuple[str, Run]], baseline: str, arms: Sequence[str], formed: float | None
) -> pd.DataFrame:
    """When copying formed, in tokens, since arms may differ in batch size."""
    curves = pick(_log(runs), metrics.COPY_ACCURACY, LATER) if runs else pd.DataFrame()
    if curves.empty:
        return frame(COMPARISON, [])
    threshold, why = formed, "a model without heads copies as well as the oracle here"
    if threshold is None:
        try:
            threshold = formation_threshold(runs[0][1].sandbox)
        except MechdistillError as error:  # like a text that did not come with its runs
            why = f"no threshold without the world: {error}"
    if threshold is None:
        warnings.warn(f"left out: {metrics.FORMATION.name} ({why}; give a copy accuracy by --formed)", stacklevel=4)
        return frame(COMPARISON, [])
    formation = stats.formation_tokens(curves, threshold)
    return stats.compare_formation(formation, baseline, arms, threshold)


def _shown(path: Path) -> str:
    """A directory as the user would name it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _primaries() -> list[str]:
    return [outcome.name for outcome in OUTCOMES.values() if outcome.primary]


def usual_baseline(experiment: Experiment) -> str:
    """The arm `spt`, or the first that does not distil; of those, one that begins where another arm does, if any."""
    arms = experiment.config.arms
    plain = sorted((name for name, arm in arms.items() if not arm.distils), key=lambda name: name != "spt")
    starts = [arm.init for arm in arms.values()]
    shared = (name for name in plain if starts.count(arms[name].init) > 1)
    return next(shared, next(iter(plain), next(iter(arms))))
