"""The claims scorecard of an experiment: who plays which role, their tables, and those of tables without context.

`claims(experiment)` is `mechdistill claims DIR`.
"""

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from mechdistill import arguments, stats, training
from mechdistill.ambient import neutral
from mechdistill.analysis._account import entries, left_out
from mechdistill.analysis._apply import lacking, measured
from mechdistill.analysis._null_tables import NullTables
from mechdistill.analysis._progress import progress
from mechdistill.analysis._threshold import formation_threshold
from mechdistill.config import CrossedSeeds
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, Run
from mechdistill.stats import Case, Context
from mechdistill.stats.claims import CLAIMS, Claim
from mechdistill.tables import CHECK_TABLE, MEASURES, METRICS_LOG


@neutral()
def claims(experiment: Experiment, *, null: bool = True) -> pd.DataFrame:
    """The `claims` table: C1 to C12 of arXiv 2509.01649, each judged by the criteria of `stats.claims`.

    Arms are taken for what they are, whatever their names (`stats` has the roles), and stand beside each other only in
    one world, with one model and training. Finished runs count, and what they come to is measured where it is not yet;
    of runs and quantities that are left out a warning says why. With `null`, the same is asked of tables without
    context that saw each run's data under its objective (`tabular_null`): what they show too is not about circuits.
    Fewer than 3 seeds never give a verdict. Raises MechdistillError for what is no experiment, and for one with crossed
    seeds, whose pairs are not independent.
    """
    arguments.instance(experiment, "experiment", Experiment, "must be an experiment, as md.load(path) gives it")
    if isinstance(experiment.config.seeds, CrossedSeeds):
        raise MechdistillError(
            f"{experiment.path}: its seeds are crossed, so that pairs are not independent, which every interval takes "
            "them for; train the arms with plain seeds, like 0-9"
        )
    among = stats.candidates(experiment.config)
    casts = {claim: stats.cast(claim.roles, claim.lead, [one for one in among if claim.takes(one)]) for claim in CLAIMS}
    playing = {arm for cast in casts.values() for arm in cast.values()}
    source = _Source(experiment, playing, null)
    cases: dict[str, Case] = {}
    with progress("claims", sum(map(bool, casts.values()))) as advance:
        for claim, cast in casts.items():
            if cast:
                cases[claim.name] = source.case(claim, cast)
                advance(claim.name)
    for line in dict.fromkeys(source.left_out):
        warnings.warn(line, stacklevel=3)
    return stats.scorecard(cases)


class _Playing(NamedTuple):
    """A run, and the role that it plays."""

    role: str
    run: Run


class _Source:
    """Tables of the finished runs of an experiment, each made once."""

    def __init__(self, experiment: Experiment, arms: set[str], null: bool):
        found = [entry for entry in entries(experiment) if entry.arm in arms]
        self._runs = [(entry.arm, entry.run) for entry in found if entry.run is not None]
        self._experiment = experiment
        self._null = {follow: NullTables(follow=follow) for follow in (False, True)} if null else {}
        self._made: dict[tuple[str, str], pd.DataFrame] = {}
        self.left_out = left_out(found)
        """What is in no verdict, and why."""

    @cached_property
    def _checks(self) -> pd.DataFrame:
        return training.checks(self._experiment)

    def case(self, claim: Claim, cast: dict[str, str]) -> Case:
        """What there is to judge a claim by."""
        playing = [_Playing(role, run) for role, arm in cast.items() for name, run in self._runs if name == arm]
        context = self._context(claim, playing)

        def values(playing: list[_Playing], table: Callable[[str, Run], pd.DataFrame]) -> pd.DataFrame:
            tables: dict[str, pd.DataFrame] = {}
            for name in dict.fromkeys(stats.QUANTITIES[name].table for name in claim.quantities) if playing else ():
                found = [table(name, run).assign(arm=role, run=f"{role}/{run.config.seed}") for role, run in playing]
                tables[name] = pd.concat([one for one in found if len(one)] or found[:1], ignore_index=True)
            return stats.quantities(claim.quantities, tables, context)

        own = values(playing, self._table)
        null = values(playing if self._null else [], lambda name, run: self._null_table(claim, name, run))
        return Case(cast, own, null, frozenset(role for role, _ in playing))

    def _context(self, claim: Claim, playing: list[_Playing]) -> Context:
        """What is true of the world that they share."""
        if not playing:
            return Context(None, False, {}, self.left_out)
        world = playing[0].run.sandbox
        threshold = formation_threshold(world) if claim.asks_when else None
        support = dict(enumerate((world.pi > 0).sum(axis=1).tolist()))
        return Context(threshold, bool(world.rate.any()), support, self.left_out)

    def _null_table(self, claim: Claim, name: str, run: Run) -> pd.DataFrame:
        try:
            return self._null[claim.follows].table(name, run)
        except MechdistillError as error:
            self.left_out.append(f"no table without context of {run.name}: {error}")
            return pd.DataFrame()

    def _table(self, name: str, run: Run) -> pd.DataFrame:
        key = (name, run.name)
        if key not in self._made:
            self._made[key] = self._computed(name, run)
        return self._made[key]

    def _computed(self, name: str, run: Run) -> pd.DataFrame:
        if name == METRICS_LOG.name:
            return run.metrics()
        if name == CHECK_TABLE.name:
            mine = (self._checks["arm"] == run.config.treatment) & (self._checks["seed"] == run.config.seed)
            return self._checks[mine]
        if why := lacking(MEASURES[name], run):
            self.left_out.append(f"{name}: {run.name} {why}")
            return pd.DataFrame()
        return measured(name)(run)
