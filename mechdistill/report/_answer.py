"""What an experiment answers, in three points computed from its tables: was copying harmed, which heads copy, and what
of the rows.

Tables in, text out; nothing here is written down before the numbers are known. Levels and differences are of the same
finished pairs of twins. One or two pairs are described, never generalised; from three on, a difference is one if its
95 % interval excludes 0, and none of note if the interval lies within `LARGE`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from mechdistill.circuits import HeadSet, copy_circuit, names, targets
from mechdistill.circuits.ablation import FULL, MEAN
from mechdistill.tables import (
    CHECKS,
    LATER,
    ORDINARY,
    OUTCOMES,
    Outcome,
    last_step,
    metrics,
    pick,
)

LARGE = 0.1
"""Nats of copy excess: the least that is called harm (criterion of claim C3)."""
ALIKE = (0.87, 1.15)
"""Ratios of KL between which rows are known about as well (criterion of claim C2)."""


class Pair(NamedTuple):
    """The arm that is asked about, and the one that it is compared with."""

    arm: str
    baseline: str
    distillation: bool = True
    """Whether it is distillation that they differ in: the arm distils and its baseline does not."""


class Evidence(NamedTuple):
    """The tables that the sentences are computed from; None: there is no such table."""

    log: pd.DataFrame
    """`metrics` of the runs: of finished ones where there is a pair."""
    comparison: pd.DataFrame | None
    pair: Pair | None
    scores: pd.DataFrame | None
    effects: pd.DataFrame | None
    checks: pd.DataFrame


class Answer(NamedTuple):
    """The question and its answer."""

    question: str
    sentences: list[str]


def answer(evidence: Evidence) -> Answer:
    """The question that the experiment is about, and three sentences that answer it."""
    pair = evidence.pair
    if pair is None:
        question = "What has formed in training, and which heads copy?"
        return Answer(question, [_level(evidence), _heads(evidence), _level_of_rows(evidence)])
    question = (
        f"Did distillation harm copying ({pair.arm} against {pair.baseline}), and which heads do it?"
        if pair.distillation
        else f"Does {pair.arm} copy worse than {pair.baseline}, and which heads do it?"
    )
    return Answer(question, [_harm(evidence, pair), _heads(evidence), _rows(evidence, pair)])


def final(log: pd.DataFrame, arm: str, outcome: Outcome) -> "pd.Series[float]":
    """An outcome of each run of an arm at its last evaluation, by seed."""
    rows = pick(last_step(log[log["arm"] == arm]), outcome.metric, outcome.occurrence)
    return rows.set_index("seed")["value"]


def _levels(evidence: Evidence, pair: Pair, outcome: Outcome) -> tuple[float, float]:
    """Means of arm and baseline over the seeds that both have: the runs that the difference is of."""
    ours, theirs = (final(evidence.log, arm, outcome) for arm in (pair.arm, pair.baseline))
    shared = ours.index.intersection(theirs.index)
    return float(ours[shared].mean()), float(theirs[shared].mean())


def difference(comparison: pd.DataFrame | None, arm: str, outcome: Outcome) -> dict[Any, Any] | None:
    """The line of a comparison, or None where there is none; one without a difference says why in its `note`."""
    if comparison is None:
        return None
    found = comparison[(comparison["arm"] == arm) & (comparison["metric"] == outcome.name)]
    return found.iloc[0].to_dict() if len(found) else None


_EXCESS, _ACCURACY = OUTCOMES[metrics.COPY_EXCESS.name], OUTCOMES[metrics.COPY_ACCURACY.name]
_FORMATION, _KL = OUTCOMES[metrics.FORMATION.name], OUTCOMES[metrics.KL.name]


def _harm(evidence: Evidence, pair: Pair) -> str:
    excess = difference(evidence.comparison, pair.arm, _EXCESS)
    if excess is None:
        return "Nothing can be copied in this world, so there is no copying to harm."
    if pd.isna(excess["difference"]):
        return f"Not known: {excess['note']}."
    ours, theirs = _levels(evidence, pair, _EXCESS)
    right, right_there = _levels(evidence, pair, _ACCURACY)
    floor = _without_matching(evidence, pair)
    nobody = not math.isnan(floor) and max(right, right_there) <= floor
    verdict = f"Neither copies (no matching reaches {100 * floor:.1f} %)" if nobody else _verdict(excess)
    return (
        f"{verdict}: {_over(excess)}{pair.arm} ends with a copy excess of {ours:.3f} nats against {theirs:.3f} in "
        f"{pair.baseline}{_interval(excess, '.3f')}, copies {100 * right:.1f} % right against "
        f"{100 * right_there:.1f} %, and {_formed(difference(evidence.comparison, pair.arm, _FORMATION))}."
        f"{_caution(excess)}"
    )


def _without_matching(evidence: Evidence, pair: Pair) -> float:
    """Copy accuracy of who matches nothing, in the pair's world; nan where it is not measured."""
    last = last_step(evidence.log[evidence.log["arm"] == pair.baseline])
    return float(pick(last, metrics.NO_MATCHING, LATER)["value"].mean())


def _verdict(excess: dict[Any, Any]) -> str:
    """In a few words, of how copying ends; a larger excess is harm."""
    low, high = (excess["difference"] if pd.isna(excess[end]) else excess[end] for end in ("low", "high"))
    if pd.isna(excess["low"]):
        n = int(excess["n"])
        what = "this pair" if n == 1 else f"these {n} pairs"
        harm = "yes" if low >= LARGE else "no, it copies better" if high <= -LARGE else "hardly"
        return f"In {what} of twins {harm}"
    if low > -LARGE and high < LARGE:
        return "Hardly"
    return {1: "Yes", -1: "No, it copies better", 0: "Not settled"}[_direction(excess)]


def _direction(line: dict[Any, Any]) -> int:
    """1: above its baseline, -1: below, 0: the interval holds 0."""
    return 1 if line["low"] > 0 else -1 if line["high"] < 0 else 0


def _formed(formation: dict[Any, Any] | None) -> str:
    if formation is None:
        return "when it forms copying is not measured"
    by = formation["difference"]
    if pd.isna(by):
        return str(formation["note"])
    if not by:
        return "forms copying at the same evaluation"
    when = "later" if by > 0 else "earlier"
    unknown = int(formation["censored"]) + int(formation["baseline_censored"])
    some = f"; {unknown} runs had not formed it at the end" if unknown else ""
    return f"forms copying {_tokens(abs(by))} {when}{_interval(formation, ',.0f')}{some}"


def _interval(line: dict[Any, Any], form: str) -> str:
    if pd.isna(line["low"]):
        return ""
    return f" (difference {line['difference']:+{form}}, 95 % interval {line['low']:{form}} to {line['high']:{form}})"


def _over(line: dict[Any, Any]) -> str:
    return "" if pd.isna(line["low"]) else f"over {int(line['n'])} seeds "


def _caution(line: dict[Any, Any]) -> str:
    n = int(line["n"])
    if pd.notna(line["low"]) or n > 2:
        return ""
    return f" {'One seed is' if n == 1 else 'Two seeds are'} no finding: --seeds 0-9 makes it one."


def _tokens(tokens: float) -> str:
    return f"{tokens / 1e6:.2f} M tokens" if tokens >= 1e5 else f"{tokens:,.0f} tokens"


def _heads(evidence: Evidence) -> str:
    scores = evidence.scores
    if scores is None or scores.empty:
        return "These models have no attention heads."
    shown = _first_twins(scores, evidence.pair)
    parts = [_circuit(str(run), part, evidence.effects) for run, part in shown.groupby("run", sort=False)]
    told = "; ".join(parts)
    return f"{told[:1].upper()}{told[1:]}.{_over_seeds(scores, evidence.pair)}"


def _first_twins(scores: pd.DataFrame, pair: Pair | None) -> pd.DataFrame:
    """Of the first seed, the pair that is asked about; without one, the first run."""
    last = last_step(scores)
    if pair is None:
        return last[last["run"] == last["run"].iloc[0]]
    twins = last[last["arm"].isin([pair.arm, pair.baseline])]
    seeds = [seed for seed, part in twins.groupby("seed") if part["arm"].nunique() == 2]
    twins = twins[twins["seed"] == (seeds[0] if seeds else twins["seed"].min())]
    return pd.concat([twins[twins["arm"] == arm] for arm in (pair.baseline, pair.arm)])


def _circuit(run: str, scores: pd.DataFrame, effects: pd.DataFrame | None) -> str:
    circuit = copy_circuit(scores)
    if not circuit.lookup:
        return f"in {run} no head stands out as a lookup head"
    verb = "do" if len(circuit.lookup) > 1 else "does"
    found = f"in {run} {_half(circuit.lookup, targets.LOOKUP)} {verb} the copying"
    found += _cost(run, effects, targets.LOOKUP.name)
    if circuit.previous_token:
        found += f", fed by {_half(circuit.previous_token, targets.PREVIOUS_TOKEN)}"
        found += _cost(run, effects, targets.PREVIOUS_TOKEN.name)
    return found


def _half(heads: HeadSet, half: targets.Target) -> str:
    return f"{half.name} head{'s' * (len(heads) > 1)} {_listed(names(heads))}"


def _cost(run: str, effects: pd.DataFrame | None, half: str) -> str:
    """What knocking out half of the circuit costs by mean ablation, and the most that any of its controls costs."""
    if effects is None:
        return ""
    own = effects[(effects["run"] == run) & (effects["metric"] == metrics.COPY_LOSS_DELTA.name)]
    own = own[(own["ablation"] == MEAN.name) & (own["mode"] == FULL.name)]
    own = last_step(own[own["bucket"].isna()])
    cost = own[own["what"] == half]["value"]
    controls = own[own["control"] & own["what"].str.startswith(f"{half}:")]["value"]
    if cost.empty:
        return ""
    held = f", controls at most {controls.max():.2f}" if len(controls) else ""
    return f" (knocking out costs {cost.iloc[0]:.2f} nats{held})"


def _over_seeds(scores: pd.DataFrame, pair: Pair | None) -> str:
    last = last_step(scores)
    if pair is None or last["seed"].nunique() == 1:
        return ""
    counts: list[str] = []
    for arm in (pair.baseline, pair.arm):
        runs = [bool(copy_circuit(part).lookup) for _, part in last[last["arm"] == arm].groupby("run")]
        counts.append(f"{sum(runs)} of {len(runs)} runs of {arm}")
    return f" A lookup head stands out in {' and '.join(counts)}."


def _listed(heads: str) -> str:
    *first, last = heads.split()
    return f"{', '.join(first)} and {last}" if first else last


def _rows(evidence: Evidence, pair: Pair) -> str:
    line = difference(evidence.comparison, pair.arm, _KL)
    checked = _checked(evidence.checks, pair.arm)
    if line is None or pd.isna(line["difference"]):
        return _level_of_rows(evidence) + checked
    ours, theirs = _levels(evidence, pair, _KL)
    alike = bool(theirs) and ALIKE[0] <= ours / theirs <= ALIKE[1]
    told = f"KL to the oracle {ours:.4f} against {theirs:.4f} nats{_interval(line, '.4f')}"
    if pd.notna(line["low"]) and not _direction(line):
        return f"Which of the two knows the ordinary rows better is not settled: {told}.{checked}"
    word = "worse" if line["difference"] > 0 else "better"
    how = "about as well as" if alike else f"{word} than"
    return f"{pair.arm} knows the ordinary rows {how} {pair.baseline}: {told}.{checked}"


def _checked(checks: pd.DataFrame, arm: str) -> str:
    """Whether what the arm is taught is what the study says."""
    known = checks[(checks["arm"] == arm) & checks["passed"].notna()]
    if known.empty:
        return ""
    failed = known[~known["passed"].astype(bool)]
    if failed.empty:
        return f" Its teacher passes all manipulation checks ({len(known)} of {len(known)})."
    told = "; ".join(
        f"{CHECKS[str(name)].label} {_range(part['value'])}, has to be {bounds(part.iloc[0].to_dict())}"
        for name, part in failed.groupby("check", sort=False)
    )
    return f" Its teacher is not what the study says ({told}), so this is no test of the paper's claim."


def _range(values: "pd.Series[float]") -> str:
    low, high = (f"{value:.3g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def bounds(check: Mapping[Any, Any]) -> str:
    """Between what a check's value has to lie, in words."""
    parts = [f"at least {check['low']:g}"] if pd.notna(check["low"]) else []
    parts += [f"at most {check['high']:g}"] if pd.notna(check["high"]) else []
    return " and ".join(parts) or "-"


def _level(evidence: Evidence) -> str:
    """Without a pair: what each arm came to."""
    arms = list(dict.fromkeys(evidence.log["arm"]))
    values = {arm: final(evidence.log, arm, _ACCURACY) for arm in arms}
    known = {arm: value for arm, value in values.items() if len(value)}
    if not known:
        return "Nothing can be copied in this world."
    told = ", ".join(f"{100 * float(value.mean()):.1f} % right in {arm}" for arm, value in known.items())
    need = pick(last_step(evidence.log), metrics.NO_MATCHING, LATER)["value"]
    beside = f"; no matching reaches {100 * float(need.iloc[0]):.1f} %" if len(need) else ""
    return f"Copy accuracy at the last evaluation: {told}{beside}."


def _level_of_rows(evidence: Evidence) -> str:
    rows = pick(last_step(evidence.log), metrics.KL, ORDINARY)
    if rows.empty:
        return "Rows are not measured in this world."
    told = ", ".join(f"{part['value'].mean():.4f} in {arm}" for arm, part in rows.groupby("arm", sort=False))
    return f"On ordinary rows, KL to the oracle in nats: {told}."
