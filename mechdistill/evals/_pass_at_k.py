"""pass@k of one model: exact by enumeration, held against the best that is possible and against samples of its own."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch

from mechdistill.evals._estimate import best_pass_at_k, exact_pass_at_k, majority_vote
from mechdistill.evals._paths import counted, drawn, path_chances
from mechdistill.evals._problems import Problems, chains, hidden_target, multi_hop
from mechdistill.model import Model
from mechdistill.subject import Subject
from mechdistill.tables import PASS_AT_K, TEMPERATURE, frame, metrics
from mechdistill.world import KnownWorld, known

KS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
TEMPERATURES = (0.25, 0.5, 0.7, 1.0, 1.3, 1.6, 2.0, 3.0, 5.0, 10.0)
"""Up to where an arm that knows more comes down to the pass@1 of one that knows less, so that they can be matched."""
SAMPLES = 256
"""Drawn of each problem for the cross-check."""
VOTERS = 16
"""Samples of a majority vote."""

_MOST_CHECKED = 16  # k, with so many samples


def pass_at_k(model: Model, world: KnownWorld, generator: torch.Generator) -> pd.DataFrame:
    """The `pass-at-k` table of a model in a world, on problems that are a pure function of the world.

    Tasks: `hidden-target`, `chains` and, where there are triggers, `multi-hop`; see `hidden_target`, `chains` and
    `multi_hop`. A task of which the world has no problem is left out. Means over problems:

    - `pass-at-k`: Σ w·(1-(1-p)^k) over solutions, where w is a solution's chance to be the hidden one and p the model's
      chance to say it at a temperature; `exact` true. Where `exact` is false, the estimate from 256 samples drawn at
      temperature 1, for k <= 16: a cross-check.
    - `pass-at-k-optimum`: the most that any law of samples reaches (`best_law`), of no temperature; and `regret`: how
      far below it the model stays.
    - `majority-vote`: accuracy of the commonest of k = 16 samples at temperature 1, uniform among those that tie: exact
      for `hidden-target`, else over 16 groups of the samples.
    - `enumerated-mass`: what the hidden solution is drawn from, as a share of the world's law at decisions.

    All in [0, 1]. Chance, with every token equally likely, is about k/vocab for one turn and vanishes for several; the
    world's own law stays below the optimum for k > 1, since spread pays. Sources: Chen et al. 2021 (pass@k),
    arXiv 2509.01649 (the question), Wang et al. 2022 (majority vote).
    """
    rows: list[dict[str, Any]] = []
    for problems in (hidden_target(world), chains(world), multi_hop(world)):
        if problems is not None:
            rows += ({"task": problems.task, **row} for row in _rows(model, problems, generator))
    return frame(PASS_AT_K, rows)


def measure_pass_at_k(subject: Subject) -> pd.DataFrame:
    """pass@k of a subject's model in its world; see `pass_at_k`."""
    return pass_at_k(subject.model, known(subject.world, "pass@k"), subject.generator())


def _rows(model: Model, problems: Problems, generator: torch.Generator) -> Iterator[dict[str, Any]]:
    n = len(problems.prompts)
    chances = path_chances(model, problems, list(TEMPERATURES))
    weight = problems.by_problem(problems.weight)
    yield metrics.ENUMERATED_MASS.row(problems.mass, exact=True)
    for k in KS:
        best = float(best_pass_at_k(weight, k).mean())
        reached = (problems.weight[:, None] * exact_pass_at_k(chances, k)).sum(dim=0) / n
        yield metrics.PASS_AT_K_OPTIMUM.row(best, k=k, exact=True)
        for temperature, value in zip(TEMPERATURES, reached.tolist(), strict=True):
            where = {"k": k, TEMPERATURE.name: temperature, "exact": True}
            yield metrics.PASS_AT_K.row(value, **where)
            yield metrics.REGRET.row(max(0.0, best - value), **where)  # negative by rounding alone
    samples = counted(problems, drawn(model, problems, SAMPLES, generator))
    for k in KS:
        if k <= _MOST_CHECKED:
            yield metrics.PASS_AT_K.row(samples.pass_at_k(k), k=k, temperature=1.0, exact=False)
    where = {"k": VOTERS, TEMPERATURE.name: 1.0}
    law = problems.by_problem(chances[:, TEMPERATURES.index(1.0)])
    if problems.lists_everything:
        yield metrics.MAJORITY_VOTE.row(float(majority_vote(weight, law, VOTERS).mean()), **where, exact=True)
    else:
        yield metrics.MAJORITY_VOTE.row(samples.majority_vote(VOTERS), **where, exact=False)
