"""Naming heads, and choosing by score the sets that make up the copy circuit."""

import re
from typing import NamedTuple

import pandas as pd

from mechdistill.circuits.scores import LEVEL, PREVIOUS_AFTER_TRIGGER, TRIGGER_LOOKUP, Score
from mechdistill.errors import MechdistillError


class Head(NamedTuple):
    """A head; prints as L1H3."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}H{self.head}"


HeadSet = tuple[Head, ...]


def parse_head(name: str) -> Head:
    """The head that 'L1H3' or '1.3' names."""
    match = re.fullmatch(r"[Ll]?(\d+)[Hh.](\d+)", name.strip())
    if match is None:
        raise MechdistillError(f"head '{name}': must look like L1H3 or 1.3")
    return Head(int(match[1]), int(match[2]))


def names(heads: HeadSet) -> str:
    """Heads as one string, like 'L1H0 L1H3'."""
    return " ".join(str(head) for head in heads)


def standouts(scores: pd.DataFrame, score: Score) -> HeadSet:
    """The heads that a score singles out, in order of layer and head; none if it singles out no head.

    A head stands out if (a) it pays its sources more than a tenth of its attention beyond the null, by a t test over
    sequences at level .01 for all heads together (`scores.p_beyond`), and (b) its score beyond the null is at least
    half of the largest among those. (a) asks whether it does the thing at all: of networks in which no head does, at
    most one in a hundred has any head named by a score. (b) asks whether it does it about as much as the best:
    circuits are sets, and several heads share the work. A score without a null singles out no head.
    """
    rows = scores[(scores["metric"] == score.name) & (scores["p"] <= LEVEL)]
    beyond = rows["value"] - rows["null_mean"]
    chosen = rows[beyond >= beyond.max() / 2]
    return tuple(
        sorted(Head(int(layer), int(head)) for layer, head in zip(chosen["layer"], chosen["head"], strict=True))
    )


def strongest(scores: pd.DataFrame, score: Score) -> HeadSet:
    """All heads by a score of one checkpoint, the highest first; of equals the first in the model."""
    rows = scores[scores["metric"] == score.name].sort_values(["layer", "head"])
    rows = rows.sort_values("value", ascending=False, kind="stable")
    return tuple(Head(int(layer), int(head)) for layer, head in zip(rows["layer"], rows["head"], strict=True))


class CopyCircuit(NamedTuple):
    """The two halves of the copy circuit, as head scores show them."""

    lookup: HeadSet  # attend from a trigger to what followed it last time
    previous_token: HeadSet  # in earlier layers: attend from a trigger's successor back to the trigger

    @property
    def heads(self) -> HeadSet:
        """Both halves."""
        return tuple(sorted({*self.lookup, *self.previous_token}))


def copy_circuit(scores: pd.DataFrame) -> CopyCircuit:
    """The copy circuit that an `induction-scores` table of one checkpoint shows; both halves may be empty.

    Lookup heads stand out in `trigger-lookup`; previous-token heads stand out in `previous-token-after-trigger` in a
    layer before the last lookup head.
    """
    lookup = standouts(scores, TRIGGER_LOOKUP)
    last = max((head.layer for head in lookup), default=0)
    previous = tuple(head for head in standouts(scores, PREVIOUS_AFTER_TRIGGER) if head.layer < last)
    return CopyCircuit(lookup, previous)
