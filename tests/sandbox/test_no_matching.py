"""The baseline against Bayes' rule over every assignment of targets, and against all that knows no context."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from mechdistill.config import load_experiment
from mechdistill.positions import EvaluationSet, masked_mean
from mechdistill.sandbox import Sandbox
from mechdistill.world import COUNT, EXACT_BAYES, GUESSERS, ONE_AT_A_TIME
from tests.helpers import only, world


def by_every_assignment(sandbox: Sandbox, trigger: int, followed: list[int]) -> np.ndarray:
    """P(next | which tokens have followed triggers, and that this trigger was among those followed), [vocab]."""
    triggers = sorted(sandbox.triggers)
    weight = sandbox.stationary[triggers] / sandbox.stationary[triggers].sum()
    t, noise, law = triggers.index(trigger), sandbox.noise, np.zeros(sandbox.vocab)
    for targets in itertools.product(range(sandbox.vocab), repeat=len(triggers)):
        prior = np.prod([sandbox.target_prior[i, c] for i, c in enumerate(targets)])
        if prior == 0:
            continue
        # of each successor: the chance that it followed each trigger, and is what then came
        came = [
            [w * ((1 - noise) * (c == s) + noise * sandbox.pi[i, s]) for w, c, i in zip(weight, targets, triggers)]  # noqa: B905
            for s in followed
        ]
        law[targets[t]] += prior * (np.prod([sum(by) for by in came]) - np.prod([sum(by) - by[t] for by in came]))
    return (1 - noise) * law / law.sum() + noise * sandbox.pi[trigger]


SMALL: list[dict[str, Any]] = [
    {"count": 1},
    {"count": 2},
    {"count": 3},
    {"count": 2, "targets": "row"},
    {"count": 3, "targets": "row"},
    {"count": 2, "noise": 0.3},
    {"count": 3, "noise": 0.5, "targets": "row"},
]


@pytest.mark.parametrize("triggers", SMALL, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_the_exact_guess_is_that_of_every_assignment(triggers: dict[str, Any], seed: int) -> None:
    sandbox = world(vocab=8, seed=seed, seq_len=20, rows={"low": 0.3, "high": 2.0}, triggers=triggers)
    assert sandbox.no_matching_guesser == EXACT_BAYES
    data = sandbox.batch(1, 0, 3)
    hits, occurrence = sandbox.no_matching_hits(data), sandbox.occurrence(data.tokens)
    assert (hits[occurrence < 2] == 0).all()
    for b, q in (occurrence >= 2).nonzero().tolist()[:12]:
        sequence = data.sequences[b].tolist()
        followed = [sequence[j + 1] for j in range(q) if sequence[j] in sandbox.triggers]
        law = by_every_assignment(sandbox, sequence[q], followed)
        best = np.flatnonzero(law >= law.max() * (1 - 1e-9))
        assert hits[b, q] == pytest.approx(1 / len(best) if sequence[q + 1] in best else 0), (b, q)


def random_world(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    vocab = int(rng.integers(8, 32))
    rows: dict[str, Any] = [
        {"kind": "graded", "low": float(rng.uniform(0.01, 0.5)), "high": float(rng.uniform(0.6, np.log(vocab)))},
        {"kind": "two-level", "low": int(rng.integers(3, 6)), "high": int(rng.integers(6, vocab)), "share": 0.5},
        {"kind": "dirichlet", "concentration": float(rng.choice([0.1, 0.3, 1.0]))},
    ][number % 3]
    triggers: dict[str, Any] = {
        "targets": ["uniform", "row"][number // 2 % 2],
        "noise": float(rng.choice([0, 0.1, 0.5])),
    }
    if number % 2:
        triggers |= {"kind": "bernoulli", "rate": float(rng.choice([0.1, 0.4]))}
    else:
        triggers |= {"count": int(rng.integers(1, 5))}
    return {"vocab": vocab, "seq_len": 32, "seed": number, "rows": only(rows), "triggers": only(triggers)}


def without_context(sandbox: Sandbox, data: EvaluationSet) -> torch.Tensor:
    """Where the best that any table can say of copyable positions is right: the null model at its optimum."""
    sample = sandbox.batch(77, 0, 4096)
    copyable = sandbox.occurrence(sample.tokens, sample.triggers) >= 2
    counts = torch.zeros(sandbox.vocab, sandbox.vocab)
    ones = torch.ones(int(copyable.sum()))
    counts.index_put_((sample.tokens[copyable], sample.next_tokens[copyable]), ones, accumulate=True)
    return (counts.argmax(dim=1)[data.tokens] == data.next_tokens).float()


@pytest.mark.parametrize("number", [*range(20), "quickstart", "general", "tiny"])
def test_no_model_without_heads_is_better(number: int | str) -> None:
    """The presets' other worlds have no triggers, or are the first one."""
    if isinstance(number, str):
        sandbox = Sandbox(load_experiment(None, preset_name=number, settings=[]).sandbox)
    else:
        sandbox = world(**random_world(number))
    data = EvaluationSet.held_out(sandbox, 512)
    ahead = (data.no_matching_hits - without_context(sandbox, data)) * data.copyable
    by_sequence = ahead.sum(dim=1)
    assert float(by_sequence.mean()) >= -3 * float(by_sequence.std()) / 512**0.5
    assert sandbox.no_matching_guesser in GUESSERS
    rule = masked_mean(data.no_matching_hits, data.copyable)
    assert {"quickstart": rule > 0.52, "general": rule > 0.364}.get(str(number), True), rule


def test_the_figures_of_the_default_world() -> None:
    base = load_experiment(None, preset_name="quickstart", settings=[]).sandbox
    for targets, expected in (("uniform", 0.536), ("row", 0.992)):
        triggers = base.triggers.model_copy(update={"targets": targets})
        sandbox = Sandbox(base.model_copy(update={"triggers": triggers}))
        data = EvaluationSet.held_out(sandbox, 1024)
        assert masked_mean(data.no_matching_hits, data.copyable) == pytest.approx(expected, abs=0.001)
        assert sandbox.no_matching_guesser == EXACT_BAYES


def test_rules_stand_in_where_the_exact_guess_would_take_long() -> None:
    """With many triggers nobody sums over all joint targets; one at a time is nearly as good."""
    sandbox = world(vocab=24, seq_len=48, rows={"high": 3.0}, triggers={"count": 9})
    assert sandbox.no_matching_guesser in (COUNT, ONE_AT_A_TIME)
    hits = sandbox.no_matching_hits(sandbox.evaluation(64))
    assert ((hits >= 0) & (hits <= 1)).all()


def test_the_baseline_does_not_hang_on_how_many_sequences_are_asked_at_once() -> None:
    """In a vocabulary so large that a thousand positions are taken in several parts."""
    sandbox = world(vocab=600, seq_len=40, rows={"high": 4.0}, triggers={"count": 3, "targets": "row"})
    data = sandbox.evaluation(400)
    apart = [sandbox.no_matching_hits(type(data)(*(field[i : i + 7] for field in data))) for i in range(0, 400, 7)]
    assert torch.equal(sandbox.no_matching_hits(data), torch.cat(apart))


@pytest.mark.parametrize("rule", [{"targets": "uniform", "noise": 0.9}, {"targets": "row", "noise": 0.5}], ids=str)
def test_where_little_can_be_copied_the_best_table_is_not_better_either(rule: dict[str, Any]) -> None:
    triggers = only(kind="bernoulli", rate=0.05, **rule)
    sandbox = world(vocab=64, seq_len=12, seed=183, rows=only(kind="dirichlet", concentration=0.2), triggers=triggers)
    data = sandbox.batch(77, 0, 16_000)
    copyable = sandbox.occurrence(data.tokens, data.triggers) >= 2
    table = torch.tensor(sandbox.best_bigram).argmax(dim=1)[data.tokens] == data.next_tokens
    difference = (table[copyable].double() - sandbox.no_matching_hits(data)[copyable]).numpy()
    assert difference.mean() <= 3 * difference.std() / len(difference) ** 0.5 + 1e-12
