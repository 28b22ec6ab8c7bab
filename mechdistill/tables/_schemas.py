"""The tables that are no measure's: a run's metrics, a world, a comparison, what came of training."""

from mechdistill.tables._columns import (
    BUCKET,
    METRIC,
    METRIC_COLUMNS,
    OCCURRENCE,
    ROW,
    ROW_ENTROPY,
    RUN_COLUMNS,
    Column,
    Table,
)
from mechdistill.tables.metrics import HEADLINES

METRICS_LOG = Table("metrics", (*METRIC_COLUMNS, BUCKET, OCCURRENCE))
"""Inline metrics: one row a metric and evaluation."""

WORLD = Table(
    "sandbox",
    (
        *METRIC_COLUMNS,
        ROW,
        Column("symbol", "string", "what the token stands for"),
        ROW_ENTROPY,
        BUCKET,
        Column("position", "Int64", "position in a sequence, from 0"),
    ),
)
"""About a world, so without the run's columns."""

COMPARISON = Table(
    "compare",
    (
        METRIC,
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
)
"""One row an outcome and arm; in the outcome's unit, null without an interval."""

TRAINED = Table(
    "train",
    (
        Column("run", "string", "path of the run inside its experiment"),
        Column("arm", "string", "treatment"),
        Column("seed", "Int64", "student seed"),
        Column("step", "Int64", "optimiser steps taken"),
        Column("tokens", "Int64", "predictions trained on"),
        Column("state", "string", "finished, interrupted, failed or waiting"),
        Column("seconds", "float64", "wall-clock seconds of training, evaluation and writing"),
        Column("path", "string", "directory of the run"),
        *(Column(headline.name, "float64", headline.title) for headline in HEADLINES),
    ),
)
"""One row a run; headline metrics are columns of their own."""

RUNS = Table("runs", (*RUN_COLUMNS, *(c for c in TRAINED.columns if c.name in ("state", "seconds", "path"))))
"""What `runs list` says of each run, besides its experiment."""
