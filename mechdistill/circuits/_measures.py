"""The measures of mechanism: what `induction-scores` and `ablate` compute of a subject."""

import pandas as pd

from mechdistill.circuits._heads import copy_circuit, strongest
from mechdistill.circuits.ablation import ablate
from mechdistill.circuits.scores import TRIGGER_LOOKUP, head_scores
from mechdistill.subject import Subject
from mechdistill.tables import INDUCTION_SCORES

_KEYS = ["metric", "layer", "head", "source_layer", "source_head"]


def measure_scores(subject: Subject) -> pd.DataFrame:
    """Every head score; see `head_scores`."""
    return head_scores(subject.model, subject.world, subject.generator())


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
