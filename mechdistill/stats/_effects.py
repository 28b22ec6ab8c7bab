"""What a claim is judged by: one number a seed, from runs that share it, and the interval of its mean over seeds."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from mechdistill.stats._paired import MIN_PAIRS, paired
from mechdistill.stats._ratio import Ratio, ratio_of_means
from mechdistill.stats._restricted import formation_ratio
from mechdistill.stats._roles import Role
from mechdistill.stats._twins import by_seed
from mechdistill.tables.metrics import FORMATION

FORMED, LAST = "formed", "last"
"""Quantities beside `formation-tokens`: whether a run has formed, 1 or 0, and up to when it was followed."""


class Estimate(NamedTuple):
    """An effect over n seeds; low, high are nan where there is no interval."""

    effect: float
    low: float
    high: float
    n: int


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


class Values:
    """Quantities of the runs that play the roles of a claim: columns role, seed, quantity, value."""

    def __init__(self, table: pd.DataFrame):
        self._table = table.rename(columns={"role": "arm", "quantity": "metric"})

    def of(self, quantity: str) -> pd.DataFrame:
        """A row a seed, a column a role; nan where a run lacks it."""
        return by_seed(self._table[self._table["metric"] == quantity])

    def formation(self, first: Role, second: Role) -> pd.DataFrame:
        """A `formation_steps` table of the seeds in which both were followed, in tokens."""
        own = self._table[self._table["arm"].isin([first.name, second.name])]
        wide = own[own["metric"].isin([FORMATION.name, FORMED, LAST])].pivot_table(
            index=["arm", "seed"], columns="metric", values="value", sort=False
        )
        if wide.empty or not {FORMATION.name, FORMED, LAST} <= set(wide.columns):
            return pd.DataFrame(columns=["arm", "seed", "formed", "step", "last"])
        wide = wide.dropna().reset_index().rename(columns={FORMATION.name: "step"})
        wide["formed"] = wide["formed"].astype(bool)
        return wide[wide.groupby("seed")["arm"].transform("nunique") == 2]


@dataclass(frozen=True)
class Contrast:
    """Σ of weights times a quantity, seed by seed, over the seeds that all of its roles have."""

    quantity: str
    weights: tuple[tuple[Role, float], ...]

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose runs it needs."""
        return tuple(role for role, _ in self.weights)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What of them."""
        return (self.quantity,)

    def by_seed(self, values: Values) -> "pd.Series[float]":
        """One number a seed."""
        wide = values.of(self.quantity)
        names = [role.name for role in self.roles]
        if not set(names) <= set(wide.columns):
            return pd.Series(dtype="float64")
        complete = wide[names].dropna()
        totals = complete.to_numpy() @ np.array([weight for _, weight in self.weights])
        return pd.Series(totals, index=complete.index)

    def seeds(self, values: Values) -> set[int]:
        """That all of its roles have."""
        return set(self.by_seed(values).index)

    def estimate(self, values: Values) -> Estimate:
        """Its mean with the paired t interval at 95 %."""
        found = paired(self.by_seed(values).to_numpy())
        return Estimate(found.difference, found.low, found.high, found.n)


@dataclass(frozen=True)
class Share:
    """The mean of one contrast over that of another, with Fieller's interval at 95 %."""

    part: Contrast
    whole: Contrast

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose runs it needs."""
        return tuple(dict.fromkeys((*self.part.roles, *self.whole.roles)))

    @property
    def quantities(self) -> tuple[str, ...]:
        """What of them."""
        return (*self.part.quantities, *self.whole.quantities)

    def seeds(self, values: Values) -> set[int]:
        """That both have."""
        return self.part.seeds(values) & self.whole.seeds(values)

    def estimate(self, values: Values) -> Estimate:
        """Over the seeds that both have."""
        part, whole = (contrast.by_seed(values) for contrast in (self.part, self.whole))
        seeds = part.index.intersection(whole.index)
        return _of_ratio(ratio_of_means(part[seeds].to_numpy(), whole[seeds].to_numpy()))


@dataclass(frozen=True)
class FormationRatio:
    """How many times longer copying takes to form: restricted mean times up to the smallest budget of both."""

    arm: Role
    baseline: Role

    @property
    def roles(self) -> tuple[Role, ...]:
        """Whose runs it needs."""
        return (self.arm, self.baseline)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What of them."""
        return (FORMATION.name, FORMED, LAST)

    def seeds(self, values: Values) -> set[int]:
        """In which both were followed."""
        return set(values.formation(self.arm, self.baseline)["seed"])

    def estimate(self, values: Values) -> Estimate:
        """With Fieller's interval; nothing where no run of the two has formed by then."""
        runs = values.formation(self.arm, self.baseline)
        if runs.empty:
            return NOTHING
        horizon = float(runs["last"].min())
        if not (runs["formed"] & (runs["step"] <= horizon)).any():
            return NOTHING
        return _of_ratio(formation_ratio(runs, self.arm.name, self.baseline.name, horizon))


Effect = Contrast | Share | FormationRatio


def value(role: Role, quantity: str) -> Contrast:
    """A quantity of one arm."""
    return Contrast(quantity, ((role, 1.0),))


def difference(arm: Role, baseline: Role, quantity: str) -> Contrast:
    """Arm minus baseline."""
    return Contrast(quantity, ((arm, 1.0), (baseline, -1.0)))


def ratio(arm: Role, baseline: Role, quantity: str) -> Share:
    """Mean of the arm over mean of the baseline."""
    return Share(value(arm, quantity), value(baseline, quantity))


def interaction(late: tuple[Role, Role], early: tuple[Role, Role], quantity: str) -> Contrast:
    """(Arm minus baseline) late, less the same early."""
    (arm, baseline), (arm_early, baseline_early) = late, early
    return Contrast(quantity, ((arm, 1.0), (baseline, -1.0), (arm_early, -1.0), (baseline_early, 1.0)))


def _of_ratio(found: Ratio) -> Estimate:
    return Estimate(found.ratio, found.low, found.high, found.n)


def has_interval(estimate: Estimate) -> bool:
    """Whether there are enough seeds, and spread between them, to say more than a number."""
    return estimate.n >= MIN_PAIRS and not math.isnan(estimate.low)
