"""The measures of mechanism: what `induction-scores`, `ablate` and `circuits` compute of a subject."""

import warnings
from typing import Any

import pandas as pd
import torch

from mechdistill.circuits._foreign import open_bridge
from mechdistill.circuits._heads import copy_circuit, strongest
from mechdistill.circuits._wiring import wiring
from mechdistill.circuits.ablation import ablate
from mechdistill.circuits.scores import OF_WEIGHTS, SCORES, TRIGGER_LOOKUP, foreign_scores, head_scores
from mechdistill.subject import PROBE_SEED, Subject
from mechdistill.tables import INDUCTION_SCORES

_KEYS = ["metric", "layer", "head", "source_layer", "source_head"]


def measure_scores(subject: Subject) -> pd.DataFrame:
    """Every head score; see `head_scores`."""
    return head_scores(subject.model, subject.world, subject.generator())


def measure_foreign(model: Any) -> pd.DataFrame:
    """Every head score of a bridge, or of a folder (`Path`) in Hugging Face's format; see `foreign_scores`.

    Warns of the scores that are left out. Raises `MechdistillError` for a model that cannot be opened.
    """
    table = foreign_scores(open_bridge(model), torch.Generator().manual_seed(PROBE_SEED))
    there = set(table["metric"])
    left_out = [name for name in SCORES if name not in there]
    of_weights = [score.name for score in OF_WEIGHTS]
    if not there.intersection(of_weights):
        why = "this model scales or caps what it reads or says, so that its weights are not what these take them for"
        warnings.warn(f"left out: {', '.join(of_weights)} ({why})", stacklevel=3)
        left_out = [name for name in left_out if name not in of_weights]
    if left_out:
        why = "without meaning for this model, or outside a world with triggers"
        warnings.warn(f"left out: {', '.join(left_out)} ({why})", stacklevel=3)
    return table


def with_untrained_twin(table: pd.DataFrame, subject: Subject) -> pd.DataFrame:
    """With `untrained`: the same score in the run's own step-0 checkpoint, null where that is not there."""
    untrained = subject.untrained(INDUCTION_SCORES)
    if untrained is None:
        return table
    twin = untrained[[*_KEYS, "value"]].rename(columns={"value": "untrained"})
    merged = table.drop(columns="untrained").merge(twin, on=_KEYS, how="left", validate="one_to_one")
    return merged[table.columns]


def measure_ablation(subject: Subject) -> pd.DataFrame:
    """What knocking out each head and the copy circuit costs; see `ablate`."""
    scores = subject.table(INDUCTION_SCORES)
    ranked = strongest(scores, TRIGGER_LOOKUP)
    return ablate(subject.model, subject.data, copy_circuit(scores), subject.generator(), ranked=ranked)


def measure_circuits(subject: Subject) -> pd.DataFrame:
    """Edges by patching, and the copy circuit as a set; see `wiring`."""
    scores = subject.table(INDUCTION_SCORES)
    return wiring(subject.model, subject.world, subject.data, scores, subject.generator())
