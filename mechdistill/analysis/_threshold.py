"""When copying has formed: a copy accuracy between what needs no circuit and what the oracle reaches."""

import math

import torch

from mechdistill.positions import HELD_OUT, EvaluationSet, Positions, masked_mean
from mechdistill.sandbox import Sandbox

LEAST_ROOM = 0.1  # between baseline and oracle; with less, half-way is within the luck of an evaluation


def formation_threshold(world: Sandbox) -> float | None:
    """Copy accuracy at occurrence >= 2, in (0, 1), half-way from a baseline to the oracle's; below the oracle's always.

    All are means over the same held-out sequences, so it depends on the world alone. The baseline is what a guesser
    reaches that matches nothing (`EvaluationSet.no_matching_hits`). Where that leaves less than .1 below the oracle
    (one trigger, say: there is nothing to confuse it with), it is what a model without heads reaches: the likeliest
    successor of the current token, whatever the context. None where nothing can be copied, or where that model copies
    as well as the oracle: then nothing says when a circuit has formed.
    """
    data = EvaluationSet.held_out(world, HELD_OUT)
    oracle = masked_mean(Positions.of(data, lambda part: part.labels.log_probs).correct, data.copyable)
    guess = torch.tensor(world.mean_pi).argmax(dim=1)[data.tokens]
    headless = masked_mean((guess == data.next_tokens).float(), data.copyable)
    baseline = max(headless, masked_mean(data.no_matching_hits, data.copyable))
    if math.isnan(oracle) or oracle <= headless:
        return None
    return ((baseline if oracle - baseline >= LEAST_ROOM else headless) + oracle) / 2
