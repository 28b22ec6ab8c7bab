"""The sentences of the report: what they say of tables whose answer is known."""

import re

import pandas as pd
import pytest

import mechdistill as md
from mechdistill.report._answer import Evidence, Pair, answer
from mechdistill.report._glossary import WORDS, glossary, marked
from mechdistill.runs import Experiment
from mechdistill.stats import compare_formation, compare_twins
from mechdistill.tables import CHECK_TABLE, LATER, METRICS_LOG, ORDINARY, frame, last_step, metrics, pick

PAIR = Pair("dpt", "spt")
NO_CHECKS = frame(CHECK_TABLE, [])


def log(excess: dict[str, list[float]], kl: float = 0.02) -> pd.DataFrame:
    """An inline log of one evaluation: copy excess by arm and seed, and what else the sentences quote."""
    rows = [
        {"run": f"{arm}/seed-{seed}", "arm": arm, "seed": seed, "step": 10, "tokens": 1000, **row}
        for arm, values in excess.items()
        for seed, value in enumerate(values)
        for row in (
            metrics.COPY_EXCESS.row(value, occurrence=LATER),
            metrics.COPY_ACCURACY.row(1 - value / 4, occurrence=LATER),
            metrics.KL.row(kl + 0.001 * seed + 0.01 * (arm == "spt"), occurrence=ORDINARY),
        )
    ]
    return pd.DataFrame(rows).assign(bucket=pd.NA)


def evidence(excess: dict[str, list[float]], later: list[int] | None = None) -> Evidence:
    """With formation of the distilled twin that many tokens later, seed by seed."""
    table = log(excess)
    named = {
        (metrics.COPY_EXCESS.name, LATER): "copy-excess",
        (metrics.COPY_ACCURACY.name, LATER): "copy-accuracy",
        (metrics.KL.name, ORDINARY): "kl",
    }
    values = table.assign(metric=[named[pair] for pair in zip(table["metric"], table["occurrence"], strict=True)])
    parts = [compare_twins(values[["arm", "seed", "metric", "value"]], PAIR.baseline)]
    if later is not None:
        runs = [
            {
                "arm": arm,
                "seed": seed,
                "step": 400 + 10 * seed + (by if arm == PAIR.arm else 0),
                "formed": True,
                "last": 900,
            }
            for seed, by in enumerate(later)
            for arm in PAIR[:2]
        ]
        parts.append(compare_formation(pd.DataFrame(runs), PAIR.baseline, [PAIR.arm], 0.7))
    comparison = pd.concat(parts, ignore_index=True)
    return Evidence(table, comparison, PAIR, None, None, NO_CHECKS)


NONE, MUCH, MIXED = [0.01, 0.02, 0.01, 0.02], [0.6, 0.62, 0.64, 0.6], [-0.2, 0.3, -0.1, 0.2]


def test_below_no_matching_nobody_copies() -> None:
    some = evidence({"spt": NONE, "dpt": MUCH}, [90, 80, 100, 95])
    rows = some.log[some.log["metric"] == metrics.COPY_ACCURACY.name].assign(metric=metrics.NO_MATCHING.name)
    for level, copies in ((0.5, True), (0.998, False)):
        log = pd.concat([some.log, rows.assign(value=level)])
        told = answer(some._replace(log=log)).sentences[0]
        assert told.startswith("Yes: over 4 seeds" if copies else "Neither copies (no matching reaches 99.8 %)")


@pytest.mark.parametrize(
    ("ours", "theirs", "later", "verdict"),
    [
        (MUCH, NONE, [-90, -80, -100, -95], "Yes: over 4 seeds"),
        (NONE, MUCH, [90, 80, 100, 95], "No, it copies better: over 4 seeds"),
        (
            MIXED,
            NONE,
            [90, 80, 100, 95],
            "Not settled: over 4 seeds",
        ),  # when copying forms is told, and decides nothing
        (MIXED, NONE, [-90, -80, -100, -95], "Not settled: over 4 seeds"),
        (MIXED, NONE, None, "Not settled: over 4 seeds"),
        ([0.011, 0.021, 0.012, 0.021], NONE, None, "Hardly: over 4 seeds"),
        ([1.0] * 4, [0.5] * 4, None, "In these 4 pairs of twins yes: "),  # one difference, four times: no interval
        (MUCH[:1], NONE[:1], [50], "In this pair of twins yes: "),
        (NONE[:1], MUCH[:1], [50], "In this pair of twins no, it copies better: "),
        (NONE[:2], NONE[:2], [0, 0], "In these 2 pairs of twins hardly: "),
    ],
)
def test_the_verdict_is_what_intervals_over_seeds_say(
    ours: list[float], theirs: list[float], later: list[int] | None, verdict: str
) -> None:
    first = answer(evidence({"spt": theirs, "dpt": ours}, later)).sentences[0]
    assert first.startswith(verdict), first
    assert ("no finding" in first) == (len(ours) < 3)
    assert ("95 % interval" in first) == (len(ours) > 2 and len(set(ours)) > 1)
    mean = sum(ours) / len(ours)
    assert f"copy excess of {mean:.3f} nats against {sum(theirs) / len(theirs):.3f} in spt" in first
    if later is not None and len(later) > 1 and any(later):
        by = sum(later) / len(later)
        assert f"forms copying {abs(by):,.0f} tokens {'later' if by > 0 else 'earlier'}" in first


def test_levels_and_differences_are_of_the_same_pairs() -> None:
    """Seeds that only one arm has are in neither."""
    some = evidence({"spt": [0.01, 0.02, 0.01, 3.0, 3.0], "dpt": [0.3, 0.32, 0.34]})
    first, _, last = answer(some).sentences
    assert "copy excess of 0.320 nats against 0.013 in spt (difference +0.307" in first
    assert "KL to the oracle 0.0210 against 0.0310 nats" in last


def test_the_question_is_about_distillation_where_that_is_what_differs() -> None:
    some = evidence({"spt": NONE, "dpt": MUCH})
    assert answer(some).question.startswith("Did distillation harm copying (dpt against spt)")
    other = answer(some._replace(pair=PAIR._replace(distillation=False))).question
    assert other == "Does dpt copy worse than spt, and which heads do it?"


@pytest.mark.parametrize(
    ("kl", "told"),
    [
        ([0.004, 0.005, 0.006], "dpt knows the ordinary rows better than spt"),
        ([0.0302, 0.0313, 0.0324], "dpt knows the ordinary rows about as well as spt"),
        ([0.01, 0.09, 0.0], "Which of the two knows the ordinary rows better is not settled"),
        ([0.0310], "dpt knows the ordinary rows about as well as spt"),
        ([0.05], "dpt knows the ordinary rows worse than spt"),
    ],
)
def test_rows_are_judged_by_interval_and_size(kl: list[float], told: str) -> None:
    some = evidence({"spt": NONE[: len(kl)], "dpt": MUCH[: len(kl)]})
    assert some.comparison is not None
    ours = (some.log["metric"] == metrics.KL.name) & (some.log["arm"] == "dpt")
    log = some.log.copy()
    log.loc[ours, "value"] = kl
    values = log[log["metric"] == metrics.KL.name][["arm", "seed", "metric", "value"]]
    rest = some.comparison[some.comparison["metric"] != metrics.KL.name]
    comparison = pd.concat([rest, compare_twins(values, "spt")], ignore_index=True)
    last = answer(some._replace(log=log, comparison=comparison)).sentences[-1]
    assert last.startswith(told), last
    assert f"KL to the oracle {sum(kl) / len(kl):.4f} against" in last


def test_what_is_not_known_is_not_guessed() -> None:
    empty = frame(METRICS_LOG, [])
    bare = pd.DataFrame(columns=[*["run", "arm", "seed", "step", "tokens"], *empty.columns])
    nothing = answer(Evidence(bare, None, None, None, None, NO_CHECKS))
    assert nothing.sentences == [
        "Nothing can be copied in this world.",
        "These models have no attention heads.",
        "Rows are not measured in this world.",
    ]
    some = evidence({"spt": NONE, "dpt": MUCH})
    assert some.comparison is not None
    blind = some.comparison[some.comparison["metric"] != "copy-excess"]
    assert answer(some._replace(comparison=blind)).sentences[0].startswith("Nothing can be copied in this world")


def test_a_teacher_that_is_not_as_meant_is_said() -> None:
    check = {
        "arm": "dpt",
        "seed": 0,
        "teacher": "t",
        "check": "teacher-copying",
        "value": 0.3,
        "low": 0.6,
        "high": 0.9,
    }
    some = evidence({"spt": NONE, "dpt": MUCH})
    failed = [check | {"passed": False}, check | {"seed": 1, "value": 0.4, "passed": False}]
    last = answer(some._replace(checks=frame(CHECK_TABLE, failed))).sentences[-1]
    assert "is possible 0.3 to 0.4, has to be at least 0.6 and at most 0.9), so this is no test of the paper's" in last
    last = answer(some._replace(checks=frame(CHECK_TABLE, [check | {"value": 0.7, "passed": True}]))).sentences[-1]
    assert "passes all manipulation checks (1 of 1)" in last


def test_heads_are_named_with_what_they_cost_and_what_controls_cost(trained: Experiment) -> None:
    scores, effects = md.induction_scores(trained), md.ablate(trained)
    # as if one head of the distilled twin were a lookup head and no other
    lookup = scores["metric"] == "trigger-lookup"
    chosen = lookup & (scores["run"] == "dpt/seed-0") & (scores["layer"] == 1) & (scores["head"] == 0)
    scores.loc[lookup, "p"] = 1.0
    scores.loc[scores["metric"] == "previous-token-after-trigger", "p"] = 1.0
    scores.loc[chosen, ["value", "null_mean", "p"]] = [0.9, 0.1, 0.0]
    half = {"run": "dpt/seed-0", "metric": "copy-loss-delta", "ablation": "mean", "mode": "full", "bucket": pd.NA}
    effects = effects[~effects["what"].str.startswith("lookup")]
    rows = [half | {"what": "lookup", "value": 2.5, "control": False, "step": effects["step"].max()}]
    rows += [
        half | {"what": f"lookup: {kind}", "value": v, "control": True, "step": effects["step"].max()}
        for kind, v in (("outside", 0.125), ("removed subspace", 0.25))
    ]
    effects = pd.concat([effects, pd.DataFrame(rows)]).astype({"control": bool})
    told = answer(evidence({"spt": NONE, "dpt": MUCH})._replace(scores=scores, effects=effects)).sentences[1]
    assert told == (
        "In spt/seed-0 no head stands out as a lookup head; in dpt/seed-0 lookup head L1H0 does the copying "
        "(knocking out costs 2.50 nats, controls at most 0.25)."
    )


def test_the_sentences_of_a_trained_experiment_hold_its_own_numbers(trained: Experiment) -> None:
    table = pd.concat([run.metrics() for run in trained.runs])
    comparison = md.compare(trained)
    pair = Pair(str(comparison["arm"].iloc[0]), "spt")
    first = answer(Evidence(table, comparison, pair, None, None, NO_CHECKS)).sentences[0]
    last = pick(last_step(table[table["arm"] == pair.arm]), metrics.COPY_EXCESS, LATER)["value"]
    assert f"copy excess of {last.mean():.3f} nats" in first
    assert "no finding" in first


def test_words_are_explained_once_and_nothing_is_markup() -> None:
    text = marked("<b>spt</b> & twins, twins of spt: copy excess in nats; spt-2x/seed-0")
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert text.count(">spt</dfn>") == 1
    assert text.count(">twins</dfn>") == 1
    targets = set(re.findall(r'aria-describedby="([^"]*)"', text))
    assert targets <= set(re.findall(r'<dd id="([^"]*)"', glossary()))
    assert len(targets) == 4
    assert len(set(re.findall(r'<dd id="([^"]*)"', glossary()))) == len(WORDS)
