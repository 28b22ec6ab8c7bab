"""Head scores: how much a head does what a named circuit would have it do; `_definitions` says how to add one."""

import itertools
import math
from collections.abc import Collection
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from mechdistill.circuits._foreign import reads_as_written, require_causal_attention
from mechdistill.circuits._probes import Probes, probes, random_probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._against import Decoys, Find, attention_to
from mechdistill.circuits.scores._definitions import (
    COMPOSITIONS,
    DIRECT_ATTRIBUTION,
    INDUCTION,
    LOGIT_LENS,
    OF_WEIGHTS,
    PREVIOUS_AFTER_TRIGGER,
    SCORES,
    TRIGGER_LOOKUP,
)
from mechdistill.circuits.scores._score import Score, Scored, ScoreFunction, attention_score, head_score
from mechdistill.circuits.scores._significance import LEVEL, MARGIN, p_beyond
from mechdistill.circuits.scores._sources import lookup_sources
from mechdistill.tables import INDUCTION_SCORES, frame
from mechdistill.world import World

_PATTERNS = 2**26  # numbers of attention to one kind of probe, all heads
_FEWEST = 8
_FOREIGN_CONTEXT = 129


def ranking(names: set[str]) -> Score:
    """The score that ranks heads: trigger lookup, where there is something to look up."""
    return TRIGGER_LOOKUP if TRIGGER_LOOKUP.name in names else INDUCTION


def head_scores(
    model: Any, world: World, generator: torch.Generator, *, sequences: int = 64, names: Collection[str] | None = None
) -> pd.DataFrame:
    """Every score of every head, head pair and layer: the `induction-scores` table of one model (`untrained` null).

    The model is ours or a TransformerLens bridge. `value` is the mean over `sequences` probe sequences, fewer of long
    ones (8, or as many as give 2^26 numbers of attention); `null_mean`
    and `null_sd` are mean and standard deviation over sequences of the same function at the null; `null_max` is the
    largest null_mean of the score over all heads; `p` is that of `p_beyond`. Scores that the model leaves undefined
    (q-composition with rotary positions) or that no query defines (induction-general where no token is a fixed trigger)
    are left out, and so are all but those of `names`, if given. Raises `MechdistillError` for a model without heads.
    """
    view = HeadView(model)
    return _table(view, probes(world, _fitting(view, view.n_ctx, sequences), view.n_ctx, generator), names)


def foreign_scores(model: Any, generator: torch.Generator, *, sequences: int = 64) -> pd.DataFrame:
    """The same of a TransformerLens bridge of any model, on repeated random tokens of its own vocabulary.

    There is no world, so that all queries count, and what is about a world's triggers is left out; so are the scores
    `OF_WEIGHTS` of a model that does not read its weights as they stand (`reads_as_written`). Blocks are at most 64
    tokens long and follow the model's beginning-of-sequence token, or token 0 where it names none. Raises
    `MechdistillError` for a model without heads, or with attention that is not causal or not finite.
    """
    view = HeadView(model)
    n_ctx = min(view.n_ctx, _FOREIGN_CONTEXT)
    many = _fitting(view, n_ctx, sequences)
    seen = random_probes(view.vocab, many, n_ctx, view.start_token, generator)
    require_causal_attention(view, seen.repeated.tokens)
    others = () if reads_as_written(view, seen.repeated.tokens) else {score.name for score in OF_WEIGHTS}
    return _table(view, seen, [name for name in SCORES if name not in others])


def _fitting(view: HeadView, n_ctx: int, sequences: int) -> int:
    return min(sequences, max(_FEWEST, _PATTERNS // (view.n_layers * view.n_heads * n_ctx**2)))


def _table(view: HeadView, seen: Probes, names: Collection[str] | None = None) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name in SCORES if names is None else names:
        score = SCORES[name]
        rows += _rows(score, SCORES.call(name, score.of, view, seen))
    return frame(INDUCTION_SCORES, rows)


def _rows(score: Score, scored: Scored) -> list[dict[str, Any]]:
    value = scored.value.detach()
    mean, sd, null_max = _spread(scored.null)
    p = None if scored.excess is None else p_beyond(scored.excess).tolist()
    rows: list[dict[str, Any]] = []
    places = itertools.product(*map(range, value.shape))
    for index, number in zip(places, value.flatten().tolist(), strict=True):
        if not math.isnan(number):
            where = dict(zip(("layer", "head", "source_layer", "source_head"), index, strict=False))
            layer, head = (*index, 0, 0)[:2]
            about = {"chance": scored.chance, "null_max": null_max}
            about["null_mean"] = None if mean is None else mean[layer][head]
            about["null_sd"] = None if sd is None else sd[layer][head]
            about["p"] = None if p is None else p[layer][head]
            rows.append(score.row(number, **where, **about))
    return rows


class _Spread(NamedTuple):
    """Of a null over its sequences, by layer and head; None where there are too few for one."""

    mean: list[list[float]] | None
    sd: list[list[float]] | None
    highest: float | None


def _spread(null: Tensor | None) -> _Spread:
    if null is None or not null.shape[1]:
        return _Spread(None, None, None)
    mean = null.mean(dim=1)
    return _Spread(mean.tolist(), null.std(dim=1).tolist() if null.shape[1] > 1 else None, float(mean.max()))


__all__ = [
    "COMPOSITIONS",
    "DIRECT_ATTRIBUTION",
    "INDUCTION",
    "LEVEL",
    "LOGIT_LENS",
    "MARGIN",
    "OF_WEIGHTS",
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
    "foreign_scores",
    "head_score",
    "head_scores",
    "lookup_sources",
    "p_beyond",
    "ranking",
]
