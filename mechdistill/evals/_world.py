"""What a sandbox is like, before anybody trains in it: the table behind `mechdistill sandbox`."""

import math
from typing import Any

import pandas as pd

from mechdistill.positions import EvaluationSet, Positions, masked_mean
from mechdistill.sandbox import Sandbox, copyable_share
from mechdistill.tables import WORLD, Metric, frame, metrics


def describe(sandbox: Sandbox, *, sequences: int = 1024) -> pd.DataFrame:
    """The `sandbox` table: each row of the world, each position, and what the best guessers reach.

    For each token (`row`): `stationary`, how often it occurs, and `trigger-rate`, how likely it is a trigger in a
    sequence. For each position: `copyable-share`, computed (`sandbox.copyable_share`), and `simulated-share`, counted
    on the held-out sequences. For the world: `trigger-share` and `copyable-share` of positions; mean losses in nats
    of the `oracle`, of a `bigram` guesser that never copies and of `uniform` guessing; and, at occurrence >= 2 of
    triggers, the accuracies `oracle-copy-accuracy` and `no-matching-accuracy`. Losses and accuracies are means over
    `sequences` held-out sequences; chance accuracy is 1/vocab.
    """
    data = EvaluationSet.held_out(sandbox, sequences)
    oracle = Positions.of(data, lambda part: part.labels.log_probs)
    bigram = Positions.of(data, lambda part: sandbox.log_pi[part.tokens])
    computed = copyable_share(sandbox)
    simulated = data.copyable.float().mean(dim=0)
    rows: list[dict[str, Any]] = []
    for token in range(sandbox.vocab):
        about = {
            "row": token,
            "symbol": sandbox.symbols[token],
            "row_entropy": float(sandbox.row_entropy[token]),
            "bucket": int(sandbox.bucket[token]) if sandbox.bucket[token] >= 0 else None,
        }
        rows.append(metrics.STATIONARY.row(float(sandbox.stationary[token]), **about))
        rows.append(metrics.TRIGGER_RATE.row(float(sandbox.rate[token]), **about))
    for position in range(sandbox.seq_len):
        rows.append(metrics.COPYABLE_SHARE.row(float(computed[position]), position=position))
        rows.append(metrics.SIMULATED_SHARE.row(float(simulated[position]), position=position))
    world: dict[Metric, float] = {
        metrics.TRIGGER_SHARE: float((data.occurrence > 0).float().mean()),
        metrics.COPYABLE_SHARE: float(computed.mean()),
        metrics.ORACLE_LOSS: float(data.oracle_loss.mean()),
        metrics.BIGRAM_LOSS: float(bigram.loss.clamp(max=50).mean()),
        metrics.UNIFORM_LOSS: math.log(sandbox.vocab),
        metrics.ORACLE_COPY_ACCURACY: masked_mean(oracle.correct, data.copyable),
        metrics.NO_MATCHING: masked_mean(data.no_matching_hits, data.copyable),
    }
    rows += [metric.row(value) for metric, value in world.items() if math.isfinite(value)]
    return frame(WORLD, rows)
