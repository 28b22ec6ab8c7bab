"""The `circuits` table of one model: its edges by patching, beside composition, and its copy circuit as a set."""

from typing import Any

import pandas as pd
import torch

from mechdistill.circuits._heads import copy_circuit
from mechdistill.circuits._probes import probes
from mechdistill.circuits._sufficiency import sufficiency
from mechdistill.circuits.paths import copy_gap, minimal_pairs, path_effects
from mechdistill.circuits.paths._patch import PathEffect
from mechdistill.circuits.scores import COMPOSITIONS
from mechdistill.model import Model, Transformer
from mechdistill.positions import EvaluationSet
from mechdistill.tables import CIRCUITS, frame
from mechdistill.tables.metrics import COPY_GAP, PATH_ATTRIBUTION, PATH_RECOVERED
from mechdistill.world import World

_SEQUENCES = 64


def wiring(
    model: Model,
    world: World,
    data: EvaluationSet,
    scores: pd.DataFrame,
    generator: torch.Generator,
    *,
    sequences: int = _SEQUENCES,
) -> pd.DataFrame:
    """Which head reads what of which, and how much of copying the circuit carries: the `circuits` table.

    `copy-gap`, in logits, is what there is to recover: how much better the model tells the right target from the wrong
    one in the clean sequences than in the corrupt ones (`minimal_pairs`), with `p` of no gap; chance 0. Where there is
    none, nothing is said of edges. Each edge has `path-recovered`, exact, and `path-attribution`, its screen, as shares
    of the gap (`path_effects`), with `null`; a pair of heads also their Q-, K- or V-composition and its chance level.
    Where `scores` (an `induction-scores` table of the same checkpoint) show a copy circuit, `faithfulness`,
    `completeness` and `minimality` follow (`sufficiency`).
    """
    assert isinstance(model, Transformer)
    pairs = minimal_pairs(probes(world, sequences, model.n_ctx, generator).natural)
    rows: list[dict[str, Any]] = []
    if pairs is not None:
        gap = copy_gap(model, pairs)
        rows.append(COPY_GAP.row(gap.size, p=gap.p))
        if gap.is_there:
            beside = _composition(scores)
            rows += [row for effect in path_effects(model, pairs, gap) for row in _rows(effect, beside)]
    circuit = copy_circuit(scores)
    if circuit.heads:
        rows += sufficiency(model, data, circuit, generator)
    return frame(CIRCUITS, rows)


_Where = tuple[str, int, int, int, int]


def _composition(scores: pd.DataFrame) -> dict[_Where, dict[str, float]]:
    """(input, layer, head, source layer, source head) -> composition and its chance level."""
    inputs = {score.name: kind for score, kind in zip(COMPOSITIONS, "qkv", strict=True)}
    return {
        (inputs[row["metric"]], row["layer"], row["head"], row["source_layer"], row["source_head"]): {
            "composition": row["value"],
            "chance": row["chance"],
        }
        for row in scores[scores["metric"].isin(list(inputs))].to_dict("records")
    }


def _rows(effect: PathEffect, beside: dict[_Where, dict[str, float]]) -> list[dict[str, Any]]:
    source, reader = effect.edge
    where: dict[str, Any] = {"input": reader.input, "source": str(source), "reader": str(reader), "control": False}
    where |= {"layer": reader.layer, "head": reader.head}
    where |= {"source_layer": source.layer, "source_head": source.head}
    rows = [PATH_ATTRIBUTION.row(effect.attribution, **where)]
    if effect.recovered is not None:
        if reader.head is not None and source.head is not None:
            assert reader.layer is not None
            assert source.layer is not None
            where |= beside.get((reader.input, reader.layer, reader.head, source.layer, source.head), {})
        rows.append(PATH_RECOVERED.row(effect.recovered, null=effect.null, **where))
    return rows
