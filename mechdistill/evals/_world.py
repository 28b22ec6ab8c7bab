"""What a sandbox is like, before anybody trains in it: the table behind `mechdistill sandbox`."""

import math
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechdistill.positions import EvaluationSet, Positions, masked_mean
from mechdistill.sandbox import Sandbox
from mechdistill.tables import WORLD, Metric, frame, metrics
from mechdistill.world import EXACT_BAYES

_POSITIONS = 2**16  # that losses and accuracies are means over, unless the number of sequences is given
_NUMBERS = 2**26  # of the laws there, in large worlds
_FEWEST = 32  # sequences


def describe(sandbox: Sandbox, *, sequences: int | None = None) -> pd.DataFrame:
    """The `sandbox` table: each row of the world, each position, and what the best guessers reach.

    For each token (`row`): `stationary`, how often it occurs (the mean over targets and positions), and
    `trigger-rate`, how likely it is a trigger in a sequence. For each position: `copyable-share`, computed
    (`Sandbox.copyable_share`), and `simulated-share`, counted on the held-out sequences. For the world: `trigger-share`
    and `copyable-share` of positions; mean losses in nats of the `oracle`, the best `bigram` guesser and of `uniform`
    guessing; and, at occurrence >= 2 of triggers, the accuracies `oracle-copy-accuracy` and `no-matching-accuracy`,
    with `no-matching-exact` (1 where that is the exact Bayes guess). The best bigram guesser is the table without
    context that has the least loss (`Sandbox.best_bigram`). Its loss less the oracle's is what copying is worth.
    Losses and accuracies are means over `sequences` held-out sequences (as many as make 65,536 positions unless given,
    1024 of 64, and fewer beyond 1024 tokens), with the standard error of such a draw in `error`; chance accuracy is
    1/vocab.
    """
    positions = min(_POSITIONS, _NUMBERS // sandbox.vocab)
    data = EvaluationSet.held_out(sandbox, sequences or max(_FEWEST, positions // sandbox.seq_len))
    oracle = Positions.of(data, lambda part: part.labels.log_probs)
    oracle_loss, correct = oracle.loss, oracle.correct
    best_bigram = torch.tensor(sandbox.best_bigram)[data.tokens, data.next_tokens].log().neg()
    share = sandbox.copyable_share()
    simulated = data.copyable.float().mean(dim=0)
    stationary, rate, entropy, bucket = sandbox.stationary, sandbox.rate, sandbox.row_entropy, sandbox.bucket
    rows: list[dict[str, Any]] = []
    for token in range(sandbox.vocab):
        about = {
            "row": token,
            "symbol": sandbox.symbols[token],
            "row_entropy": float(entropy[token]),
            "bucket": int(bucket[token]) if bucket[token] >= 0 else None,
        }
        rows.append(metrics.STATIONARY.row(float(stationary[token]), error=sandbox.stationary_error or None, **about))
        rows.append(metrics.TRIGGER_RATE.row(float(rate[token]), **about))
    for position in range(sandbox.seq_len):
        rows.append(metrics.COPYABLE_SHARE.row(float(share.value[position]), position=position))
        rows.append(metrics.SIMULATED_SHARE.row(float(simulated[position]), position=position))
    everywhere = torch.ones_like(data.copyable)
    drawn: tuple[tuple[Metric, Tensor, Tensor], ...] = (
        (metrics.TRIGGER_SHARE, (data.occurrence > 0).float(), everywhere),
        (metrics.ORACLE_LOSS, oracle_loss, everywhere),
        (metrics.BIGRAM_LOSS, best_bigram, everywhere),
        (metrics.ORACLE_COPY_ACCURACY, correct, data.copyable),
        (metrics.NO_MATCHING, data.no_matching_hits, data.copyable),
    )
    rows.append(metrics.COPYABLE_SHARE.row(share.mean, error=share.mean_error or None))
    rows.append(metrics.UNIFORM_LOSS.row(math.log(sandbox.vocab)))
    for metric, values, mask in drawn:
        if mask.any():
            rows.append(metric.row(masked_mean(values, mask), error=mean_error(values, mask)))
    if bool(data.copyable.any()):
        rows.append(metrics.NO_MATCHING_EXACT.row(float(sandbox.no_matching_guesser == EXACT_BAYES)))
    return frame(WORLD, rows)


def mean_error(values: Float[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]) -> float | None:
    """Standard error of the mean over masked positions, whose number differs by sequence; sequences are independent.

    That of a ratio of two sums, linearised: sqrt(Σ_b r_b²) / n, r_b = Σ (values - mean) over the sequence's positions,
    n positions in all. None of a single sequence.
    """
    if len(values) < 2:
        return None
    n = int(mask.sum())
    residual = torch.where(mask, values.double() - masked_mean(values, mask), 0.0).sum(dim=1)
    return float(residual.square().sum().sqrt()) / n
