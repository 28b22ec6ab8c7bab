"""Head scores: how much a head does what a named circuit would have it do; `_definitions` says how to add one."""

import itertools
import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from mechdistill.circuits._probes import probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._against import Decoys, Find, attention_to
from mechdistill.circuits.scores._definitions import (
    INDUCTION,
    PREVIOUS_AFTER_TRIGGER,
    SCORES,
    TRIGGER_LOOKUP,
    lookup_sources,
)
from mechdistill.circuits.scores._score import Score, Scored, ScoreFunction, attention_score, head_score
from mechdistill.circuits.scores._significance import LEVEL, MARGIN, p_beyond
from mechdistill.tables import INDUCTION_SCORES, frame
from mechdistill.world import World

_PATTERNS = 2**26  # numbers of attention to one kind of probe, all heads
_FEWEST = 8


def ranking(names: set[str]) -> Score:
    """The score that ranks heads: trigger lookup, where there is something to look up."""
    return TRIGGER_LOOKUP if TRIGGER_LOOKUP.name in names else INDUCTION


def head_scores(model: Any, world: World, generator: torch.Generator, *, sequences: int = 64) -> pd.DataFrame:
    """Every score of every head or head pair: the `induction-scores` table of one model (`untrained` left null).

    The model is ours or a TransformerLens bridge. `value` is the mean over `sequences` probe sequences, fewer of long
    ones (8, or as many as give 2^26 numbers of attention); `null_mean`
    and `null_sd` are mean and standard deviation over sequences of the same function at the null; `null_max` is the
    largest null_mean of the score over all heads; `p` is that of `p_beyond`. Scores that no query defines (say
    induction-general where no token is a fixed trigger) are left out. Raises `MechdistillError` for a model without
    heads.
    """
    view = HeadView(model)
    fit = _PATTERNS // (view.n_layers * view.n_heads * view.n_ctx**2)
    seen = probes(world, min(sequences, max(_FEWEST, fit)), view.n_ctx, generator)
    rows = [row for name, score in SCORES.items() for row in _rows(score, SCORES.call(name, score.of, view, seen))]
    return frame(INDUCTION_SCORES, rows)


def _rows(score: Score, scored: Scored) -> list[dict[str, Any]]:
    value, null = scored.value.detach(), scored.null
    null_max = None
    if null is not None and null.shape[1]:
        null_max = float(null.mean(dim=1).max())
    p = None if scored.excess is None else p_beyond(scored.excess)
    rows: list[dict[str, Any]] = []
    for index in itertools.product(*map(range, value.shape)):
        if not math.isnan(value[index]):
            where = dict(zip(("layer", "head", "source_layer", "source_head"), index, strict=False))
            mean, sd = (None, None) if null is None else _spread(null[index[0]][:, index[1]])
            about = {"chance": scored.chance, "null_mean": mean, "null_sd": sd, "null_max": null_max}
            about["p"] = None if p is None else float(p[index])
            rows.append(score.row(float(value[index]), **where, **about))
    return rows


def _spread(null: Tensor) -> tuple[float | None, float | None]:
    """Mean and standard deviation over sequences; None where there are too few for one."""
    return float(null.mean()) if len(null) else None, float(null.std()) if len(null) > 1 else None


__all__ = [
    "INDUCTION",
    "LEVEL",
    "MARGIN",
    "PREVIOUS_AFTER_TRIGGER",
    "SCORES",
    "TRIGGER_LOOKUP",
    "Decoys",
    "Find",
    "Score",
    "ScoreFunction",
    "Scored",
    "attention_score",
    "attention_to",
    "head_score",
    "head_scores",
    "lookup_sources",
    "p_beyond",
    "ranking",
]
