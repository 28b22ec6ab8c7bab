"""The schema of every result table: one long format, so that tables of any runs can be stacked and queried.

A measure returns its own columns; `with_run` puts the run's in front. Losses, KLs and entropies are in nats.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Column:
    """One column: its pandas type, and what it holds."""

    name: str
    dtype: str
    doc: str


RUN_COLUMNS = (
    Column("run", "string", "path of the run inside its experiment, like spt/seed-0"),
    Column("arm", "string", "treatment; 'teacher:<name>' for a teacher's own training"),
    Column("seed", "Int64", "student seed; twins share it"),
    Column("step", "Int64", "optimiser steps taken"),
    Column("tokens", "Int64", "predictions trained on so far"),
)
METRIC_COLUMNS = (
    Column("metric", "string", "what is measured"),
    Column("value", "float64", "its value, in the unit that the metric's docstring gives"),
)
_BUCKET = Column("bucket", "Int64", "quartile of ordinary rows by entropy, 0 lowest; null: not by bucket")
_OCCURRENCE = Column("occurrence", "Int64", "occurrence of a trigger: 0 none, 1 first (target unknown), 2 copyable")
_LAYER = Column("layer", "Int64", "layer, from 0; null for a set of heads")
_HEAD = Column("head", "Int64", "head within its layer, from 0; null for a set")

TABLES: dict[str, tuple[Column, ...]] = {
    # training/_loop.py, one row a metric and evaluation; occurrence 2 stands for >= 2
    "metrics": (*METRIC_COLUMNS, _BUCKET, _OCCURRENCE),
    # circuits/_scores.py
    "induction-scores": (
        *METRIC_COLUMNS,
        _LAYER,
        _HEAD,
        Column("chance", "float64", "uniform causal attention through the same function"),
        Column("null_mean", "float64", "the same queries at sources the score does not name, mean over sequences"),
        Column("null_sd", "float64", "its standard deviation over sequences"),
        Column("null_max", "float64", "largest null_mean over the model's heads"),
        Column("untrained", "float64", "the same head's score in the run's own step-0 checkpoint"),
    ),
    # evals/_row_curves.py; here occurrence 3 stands for >= 3
    "row-curves": (
        *METRIC_COLUMNS,
        Column("row", "Int64", "token whose row of the transition matrix this is; null: pooled"),
        Column("row_entropy", "float64", "entropy of that row, nats"),
        _BUCKET,
        _OCCURRENCE,
    ),
    # circuits/_ablation.py
    "ablate": (
        *METRIC_COLUMNS,
        _LAYER,
        _HEAD,
        Column("what", "string", "head; lookup, previous-token or circuit for a set; or a control of a set"),
        Column("heads", "string", "the heads of a set, like 'L1H0 L1H3'; null for a single head"),
        Column("ablation", "string", "zero or mean"),
        Column("mode", "string", "full: the head's whole output is replaced"),
        Column("control", "boolean", "true for edits that should not matter: outside heads, random subspaces"),
        _BUCKET,
    ),
    # evals/_world.py; about a world, so without the run's columns
    "sandbox": (
        *METRIC_COLUMNS,
        Column("row", "Int64", "token; null: about a position or the whole world"),
        Column("symbol", "string", "what the token stands for"),
        Column("row_entropy", "float64", "entropy of the token's row, nats"),
        _BUCKET,
        Column("position", "Int64", "position in a sequence, from 0"),
    ),
    # stats/_compare.py, one row a metric and arm; in the metric's unit, null without an interval
    "compare": (
        METRIC_COLUMNS[0],
        Column("arm", "string", "treatment"),
        Column("baseline", "string", "the arm it is compared with, seed by seed"),
        Column("difference", "float64", "mean over pairs of arm minus baseline"),
        Column("low", "float64", "its 95 % interval by the paired t: lower end"),
        Column("high", "float64", "upper end"),
        Column("p", "float64", "paired t test of no difference, two-sided"),
        Column("n", "Int64", "pairs: seeds that both arms have"),
        Column("p_sign_flip", "float64", "exact sign-flip test of no difference, two-sided"),
        Column("p_holm", "float64", "p adjusted over the primary metrics and arms; null: not primary"),
        Column("effect_size", "float64", "difference in standard deviations of the pairs' differences (Hedges)"),
        Column("minimum_detectable", "float64", "smallest true difference found with power .8 by this many pairs"),
        Column("bca_low", "float64", "95 % BCa bootstrap interval, too narrow at few pairs: lower end"),
        Column("bca_high", "float64", "upper end"),
        Column("note", "string", "why there is no interval; null if there is one"),
    ),
    # cli/_train.py, one row a run; headline metrics are columns of their own
    "train": (
        Column("run", "string", "path of the run inside its experiment"),
        Column("arm", "string", "treatment"),
        Column("seed", "Int64", "student seed"),
        Column("step", "Int64", "optimiser steps taken"),
        Column("tokens", "Int64", "predictions trained on"),
        Column("state", "string", "finished, interrupted, failed or waiting"),
        Column("seconds", "float64", "wall-clock seconds of training, evaluation and writing"),
        Column("path", "string", "directory of the run"),
        Column("copy_accuracy", "float64", "accuracy at occurrence >= 2 of a trigger"),
        Column("no_matching_accuracy", "float64", "what a guesser without any matching would score there"),
        Column("copy_excess", "float64", "loss beyond the oracle's at occurrence >= 2, nats"),
        Column("bigram_kl", "float64", "KL to the oracle where there is no trigger, nats"),
    ),
}


def frame(table: str, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows as a data frame with exactly the table's columns, in order and typed; absent cells are null.

    Raises KeyError for a column that the schema does not have.
    """
    columns = TABLES[table]
    rows = list(rows)
    unknown = {key for row in rows for key in row} - {column.name for column in columns}
    if unknown:
        raise KeyError(f"columns {sorted(unknown)} are not in the schema of table '{table}'")
    return pd.DataFrame({c.name: pd.Series([row.get(c.name) for row in rows], dtype=c.dtype) for c in columns})


def with_run(
    data: pd.DataFrame, *, run: str, arm: str, seed: int, step: int | None = None, tokens: int | None = None
) -> pd.DataFrame:
    """A measure's frame with the run's columns in front; step and tokens may be columns of the frame already."""
    values: dict[str, Any] = {"run": run, "arm": arm, "seed": seed}
    if step is not None:
        values |= {"step": step, "tokens": tokens}
    front = {
        c.name: pd.Series(values[c.name], index=data.index, dtype=c.dtype) for c in RUN_COLUMNS if c.name in values
    }
    return pd.concat([pd.DataFrame(front), data], axis=1)
