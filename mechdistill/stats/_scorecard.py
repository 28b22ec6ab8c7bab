"""The verdicts: every claim's criteria on tables of runs, beside what a table without context makes of the same."""

import math
from typing import Any, Final, Literal, NamedTuple

import pandas as pd

from mechdistill.stats._effects import Estimate, Values, has_interval
from mechdistill.stats._paired import MIN_PAIRS
from mechdistill.stats.claims import CLAIMS, Claim, Condition, Criterion, Threshold
from mechdistill.tables import SCORECARD, frame

Verdict = Literal["supported", "contradicted", "inconclusive", "not tested"]
SUPPORTED: Final = "supported"
CONTRADICTED: Final = "contradicted"
INCONCLUSIVE: Final = "inconclusive"
NOT_TESTED: Final = "not tested"


class Case(NamedTuple):
    """What there is to judge a claim by."""

    cast: dict[str, str]
    """Role -> arm that plays it; empty where nobody leads."""
    values: pd.DataFrame
    """Quantities of its runs: columns role, seed, quantity, value."""
    null: pd.DataFrame
    """The same of tables without context that see the same data and the same objective."""
    finished: frozenset[str]
    """Roles that have a finished run."""


def scorecard(cases: dict[str, Case]) -> pd.DataFrame:
    """The `claims` table: a row a criterion, from a case for each claim (`stats.claims.CLAIMS`, by name).

    A claim without a case is not tested, and neither is one of which an arm has no runs or a check fails or cannot be
    made. Fewer than 3 seeds never give a verdict. The null's verdict is by the same rule, from its own seeds; a table
    has no heads, so that of heads and formation it says nothing.
    """
    empty = pd.DataFrame(columns=["role", "seed", "quantity", "value"])
    rows: list[dict[str, Any]] = []
    for claim in CLAIMS:
        rows += _judged(claim, cases.get(claim.name, Case({}, empty, empty, frozenset())))
    return frame(SCORECARD, rows)


def _judged(claim: Claim, case: Case) -> list[dict[str, Any]]:
    values, null = Values(case.values), Values(case.null)
    reason = _absent(claim, case)
    seeds = set[int]().union(*(criterion.effect.seeds(values) for criterion in claim.criteria))
    checked = [_checked(check, values, seeds) for check in claim.checks] if seeds and not reason else []
    failed = [said for passed, said in checked if not passed]
    if not reason and failed:
        reason = f"manipulation check failed: {'; '.join(failed)}"
    found = [(criterion, criterion.effect.estimate(values)) for criterion in claim.criteria]
    verdicts: list[Verdict] = [
        NOT_TESTED if reason or not one.n else verdict(criterion, one) for criterion, one in found
    ]
    whole = together(verdicts)
    rows: list[dict[str, Any]] = []
    for (criterion, one), own in zip(found, verdicts, strict=True):
        table = criterion.effect.estimate(null)
        rows.append(
            {
                "claim": claim.name,
                "statement": claim.statement,
                "claim_verdict": whole,
                "criterion": str(criterion),
                "check": "; ".join(said for _, said in checked) or None,
                "effect": one.effect,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "verdict": own,
                "none": criterion.rule.none,
                "least": criterion.rule.low if criterion.rule.low > -math.inf else None,
                "most": criterion.rule.high if criterion.rule.high < math.inf else None,
                "null_effect": table.effect,
                "null_low": table.low,
                "null_high": table.high,
                "null_n": table.n,
                "null_verdict": verdict(criterion, table) if table.n else None,
                "arms": ", ".join(
                    f"{role.name}: {case.cast[role.name]}" for role in criterion.effect.roles if role.name in case.cast
                )
                or None,
                "note": reason or _note(one),
            }
        )
    return rows


def verdict(criterion: Criterion, one: Estimate) -> Verdict:
    """What an estimate says of a criterion; see `stats.claims`."""
    if not has_interval(one):
        return INCONCLUSIVE
    rule = criterion.rule
    if not isinstance(rule, Threshold):
        if rule.low <= one.low and one.high <= rule.high:
            return SUPPORTED
        return CONTRADICTED if one.high < rule.low or one.low > rule.high else INCONCLUSIVE
    sign = 1 if rule.side == ">=" else -1
    # turned so that more is in the claim's favour
    effect, at, none = sign * one.effect, sign * rule.at, sign * rule.none
    worst, best = sorted((sign * one.low, sign * one.high))
    if worst > none and effect >= at:
        return SUPPORTED
    return CONTRADICTED if best < at else INCONCLUSIVE


def together(verdicts: list[Verdict]) -> Verdict:
    """A claim's, from those of its criteria: contradicted by one, supported by all."""
    if NOT_TESTED in verdicts:
        return NOT_TESTED
    if CONTRADICTED in verdicts:
        return CONTRADICTED
    return SUPPORTED if set(verdicts) == {SUPPORTED} else INCONCLUSIVE


def _absent(claim: Claim, case: Case) -> str:
    """Which arms are not there, or have no finished runs."""
    if not case.cast:
        return f"no arm is {claim.lead.name} in such a world, at its own learning rate"
    lacking = [role.name for role in claim.roles if role.name not in case.cast]
    if lacking:
        return f"no arm beside {case.cast[claim.lead.name]} is {', '.join(lacking)}"
    unfinished = [case.cast[role.name] for role in claim.roles if role.name not in case.finished]
    return f"no finished run of {', '.join(dict.fromkeys(unfinished))}" if unfinished else ""


def _checked(check: Condition, values: Values, seeds: set[int]) -> tuple[bool, str]:
    """Whether a check passes over the seeds that the criteria are of, and that in words.

    All of them must have it, their mean must lie within the bounds, and so must at least half of them.
    """
    found = check.effect.by_seed(values)
    found = found[found.index.isin(list(seeds))]
    lacking = len(seeds) - len(found)
    if found.empty or lacking:
        return False, f"{check.label} not measured" + f" of {lacking} of {len(seeds)} seeds" * bool(len(found))
    mean = float(found.mean())
    within = int(found.between(check.low, check.high).sum())
    passed = check.low <= mean <= check.high and 2 * within >= len(found)
    bounds = [f">= {check.low:g}"] * (check.low > -math.inf) + [f"<= {check.high:g}"] * (check.high < math.inf)
    few = f", {within} of {len(found)} seeds" * (within < len(found))
    return passed, f"{check.label} {mean:.3g} ({' and '.join(bounds)}{few}{'' if passed else ', fails'})"


def _note(one: Estimate) -> str | None:
    if not one.n:
        return "not measured"
    if one.n < MIN_PAIRS:
        return f"{one.n} seed{'s' * (one.n > 1)}: fewer than {MIN_PAIRS} give no verdict"
    if math.isnan(one.low):
        return "no interval: the seeds do not differ, or the denominator is not known to differ from 0"
    return None
