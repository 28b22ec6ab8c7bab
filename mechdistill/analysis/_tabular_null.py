"""The tabular null of a run: the plain count table that sees the same data and minimises the same objective."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

from torch import Tensor

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.errors import MechdistillError, quoted
from mechdistill.model import Bigram
from mechdistill.runs import Run
from mechdistill.training import tabular_laws

PSEUDO_COUNT = 0.5
"""Of every label in every row, before any is seen: what Krichevsky and Trofimov 1981 add."""


@neutral()
def tabular_null(run: Run, tokens: SupportsIndex | None = None, *, pseudo_count: float = PSEUDO_COUNT) -> Bigram:
    """The table of one row a token that minimises a run's objective on the run's own first `tokens` predictions.

    law_i(y) = Σ_p (w_p·label_p(y) + a_p·teacher_p(y)) / Σ_p (w_p + a_p) over the positions p that hold token i, with
    the weights w of the label and a of the teacher that the run's arm gives them (routing, `ce_weights`, smoothed
    labels, a softened teacher and schedules of alpha included). For one alpha that is (1-alpha)·(frequencies of the
    labels) + alpha·(mean law of the teacher over the visits). It has no context, so that at triggers it gives the mean
    of what followed them, and copies at the chance of a table. Whatever it shows is not about circuits.

    `tokens` (rounded up to whole steps): all that the run was trained on unless given; 0 gives the uniform law. Every
    label counts as seen `pseudo_count` times before, with the row's mean label weight: the frequencies are
    (n(y) + 1/2) / (n + vocab/2), so that KL is finite unless labels weigh nothing; 0 takes them raw, as theory in
    squared error does. Rows never seen are uniform. In expectation, SPT and raw: squared error (1 - Σπ²)/n after n
    visits; KL about (s-1)/2n for a row of s non-zeros that are all well seen; chance, KL ln(vocab) - H.

    Labels are counted over all of the data. The teacher is asked at no more than 2^17 positions, whole steps evenly
    spread; where there are more its mean law, and what routing with `keep: 1` adds to labels, are of that sample: exact
    for a teacher that goes by the current token alone, else with a standard error of at most alpha/2 over the square
    root of a row's visits in the sample in each probability (.01 for 64 tokens). Targets that are drawn are as drawn.

    A `Bigram`: `predict`, hooks, sampling and every measure's function of a model take it. Raises `MechdistillError`
    for what is no run, for more tokens than the run's budget, where a teacher is not there, and for objectives whose
    minimiser is not such a mean: other divergences than forward KL, a softened student, a teacher or routing that goes
    by the student. Source: maximum likelihood of a Markov chain; mixed with a teacher after Menon et al. 2021.
    """
    arguments.instance(run, "run", Run, "must be a run, as md.load(path) gives it")
    count = _count(pseudo_count)
    training, length = run.config.training, run.config.sandbox.seq_len
    if tokens is None:
        steps = run.resolve("last")
    else:
        number = arguments.whole(tokens, "tokens")
        if number > training.tokens:
            raise MechdistillError(f"tokens={number}: must be at most {training.tokens}, the budget of {run.name}")
        steps = training.steps(length, number) if number else 0
    return as_model(next(iter(laws(run, (steps,), count))), length)


def laws(run: Run, at: Sequence[int], pseudo_count: float) -> list[Tensor]:
    """The tables [row, next] of a run after each of these steps, which ascend: probabilities, float64."""
    return list(tabular_laws(experiment_of(run), run.config, run.sandbox, at, pseudo_count=pseudo_count))


def experiment_of(run: Run) -> Path:
    """The directory of the experiment that a run lies in."""
    return run.path.parents[len(run.config.path.parts) - 1]


def as_model(law: Tensor, n_ctx: int) -> Bigram:
    """The model whose logits are a table's log-probabilities; -inf where it gives nothing."""
    model = Bigram(d_vocab=len(law), n_ctx=n_ctx)
    model.load_state_dict({"table": law.log().float()})
    return model.eval().requires_grad_(False)


def _count(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise MechdistillError(f"pseudo_count={quoted(value)}: must be a number, at least 0 and finite")
    return float(value)
