"""Is the circuit all there is, and is all of it needed? A set of heads against random sets of as many."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet, names
from mechdistill.circuits.ablation import EFFECTS, MEAN, KnockedOut, Task, clean_outputs, losses, replaced
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet
from mechdistill.tables.metrics import COMPLETENESS, COPY_LOSS_DELTA, FAITHFULNESS, MINIMALITY

_RANDOM_SETS = 50
_COPY_LOSS = next(i for i, effect in enumerate(EFFECTS) if effect.metric is COPY_LOSS_DELTA)


def sufficiency(
    model: Transformer, data: EvaluationSet, circuit: CopyCircuit, generator: torch.Generator
) -> list[dict[str, Any]]:
    """Rows of faithfulness, completeness and minimality of a circuit, and of the first two of random sets.

    L(S) is the copy loss at occurrence >= 2 where the heads of S compute and all others write their mean:

        faithfulness = (L(none) - L(C)) / (L(none) - L(all))       1: the circuit alone copies as the model does
        completeness = (L(all but C) - L(all)) / (L(none) - L(all))    1: without it nothing is left of copying
        minimality of v = max over K of faithfulness(C - K) - faithfulness(C - K - v)

    K is empty, or the others of v's half, since heads that stand in for each other are each dispensable. 0: v is not
    needed. Beside them stand up to 50 random sets of as many heads (`control` true), and `p`, the share of sets, the
    circuit among them, that do as well. Chance: what random sets give. No rows where heads bring no copying at all.
    Source: Wang et al. 2022, normalised.
    """
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    every = tuple(Head(layer, head) for layer in range(n_layers) for head in range(n_heads))
    others = _random_sets(every, circuit.heads, generator)
    without: dict[HeadSet, tuple[HeadSet, HeadSet]] = {}
    for head in circuit.heads:
        half = circuit.lookup if head in circuit.lookup else circuit.previous_token
        rest = tuple(other for other in half if other != head)
        without[head,] = rest, tuple(sorted({*rest, head}))
    kept: dict[HeadSet, None] = dict.fromkeys([(), every, circuit.heads, _minus(every, circuit.heads)])
    kept |= dict.fromkeys(part for each in others for part in (each, _minus(every, each)))
    for (head,), (rest, half) in without.items():
        kept |= dict.fromkeys(_minus(circuit.heads, gone) for gone in ((head,), rest, half))
    loss = dict(zip(kept, _losses(model, data, every, list(kept)), strict=True))
    gain = loss[()] - loss[every]
    if not gain > 0:
        return []

    def faithfulness(heads: HeadSet) -> float:
        return (loss[()] - loss[heads]) / gain

    def completeness(heads: HeadSet) -> float:
        return (loss[_minus(every, heads)] - loss[every]) / gain

    rows: list[dict[str, Any]] = []
    for metric, of in ((FAITHFULNESS, faithfulness), (COMPLETENESS, completeness)):
        found, random_values = of(circuit.heads), [of(heads) for heads in others]
        p = (1 + sum(value >= found for value in random_values)) / (1 + len(others))
        rows.append(metric.row(found, heads=names(circuit.heads), control=False, p=p))
        rows += [
            metric.row(value, heads=names(heads), control=True)
            for heads, value in zip(others, random_values, strict=True)
        ]
    for (head,), (rest, half) in without.items():
        alone = faithfulness(circuit.heads) - faithfulness(_minus(circuit.heads, (head,)))
        last = faithfulness(_minus(circuit.heads, rest)) - faithfulness(_minus(circuit.heads, half))
        where = {"layer": head.layer, "head": head.head, "heads": names(circuit.heads), "control": False}
        rows.append(MINIMALITY.row(max(alone, last), **where))
    return rows


def _minus(heads: HeadSet, gone: HeadSet) -> HeadSet:
    return tuple(head for head in heads if head not in gone)


def _random_sets(every: HeadSet, circuit: HeadSet, generator: torch.Generator) -> list[HeadSet]:
    """Distinct sets of as many heads, the circuit not among them; all there are, where they are few."""
    size = len(circuit)
    if math.comb(len(every), size) <= _RANDOM_SETS + 1:
        return [heads for heads in itertools.combinations(every, size) if heads != circuit]
    sets = dict.fromkeys([circuit])
    while len(sets) <= _RANDOM_SETS:
        drawn = torch.randperm(len(every), generator=generator)[:size].sort().values
        sets[tuple(every[i] for i in drawn.tolist())] = None
    return list(sets)[1:]


def _losses(model: Transformer, data: EvaluationSet, every: HeadSet, kept: Sequence[HeadSet]) -> list[float]:
    """Copy loss where only these heads compute and all others write their mean."""
    instead = replaced(clean_outputs(model, data), MEAN)
    gone = [_minus(every, heads) for heads in kept]
    tasks = [Task(KnockedOut(model, heads, instead) if heads else None) for heads in gone]
    return [float(effects[_COPY_LOSS]) for effects in losses(model, data, tasks)]
