"""The tables that are no measure's: a run's metrics, a world, a comparison, what came of training."""

from mechdistill.tables._columns import (
    BUCKET,
    HEAD,
    LAYER,
    METRIC,
    METRIC_COLUMNS,
    OCCURRENCE,
    ROW,
    ROW_ENTROPY,
    RUN_COLUMNS,
    Column,
    Table,
)
from mechdistill.tables.metrics import HEADLINES, ROUTING_PRECISION, ROUTING_RECALL

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
        Column("error", "float64", "standard error of the value where it is estimated; null: exact, or not known"),
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
        Column(
            "expected", "Int64", "pairs that there would be, had every run of the experiment been used; null: unknown"
        ),
        Column("p_sign_flip", "float64", "exact sign-flip test of no difference, two-sided"),
        Column(
            "p_holm", "float64", "p adjusted over primary metrics and arms, 1 where there is none; null: not primary"
        ),
        Column("effect_size", "float64", "difference in standard deviations of the pairs' differences (Hedges)"),
        Column("minimum_detectable", "float64", "smallest true difference found with power .8 by this many pairs"),
        Column("bca_low", "float64", "95 % BCa bootstrap interval, too narrow at few pairs: lower end"),
        Column("bca_high", "float64", "upper end"),
        Column("threshold", "float64", "of formation: copy accuracy from which copying has formed; else null"),
        Column(
            "horizon", "Int64", "of formation: tokens up to which the pairs are followed, the smallest budget of both"
        ),
        Column("censored", "Int64", "of formation: the arm's runs that had not formed by the horizon"),
        Column("baseline_censored", "Int64", "of formation: the baseline's runs that had not formed by the horizon"),
        Column("note", "string", "why there is no difference or no interval; null if there is one"),
    ),
)
"""One row an outcome and arm; in the outcome's unit, null without an interval."""

VARIANCE = Table(
    "variance-shares",
    (
        METRIC,
        Column("arm", "string", "treatment"),
        Column("factor", "string", "init, data or teacher: the seed that varies; rest: what no one of them explains"),
        Column("levels", "Int64", "seeds of that kind; of the rest null"),
        Column("variance", "float64", "its component, in the metric's unit squared; a negative estimate counts as 0"),
        Column("clamped", "boolean", "whether the estimate was negative, so that it counts as 0"),
        Column("share", "float64", "of the sum of all components; null where all runs are equal"),
        Column("low", "float64", "95 % bootstrap interval of the share, levels of every factor drawn anew: lower end"),
        Column("high", "float64", "upper end"),
        Column("n", "Int64", "runs of the crossing"),
        Column("threshold", "float64", "of formation: copy accuracy from which copying has formed; else null"),
        Column("horizon", "Int64", "of formation: tokens up to which runs are followed"),
        Column("censored", "Int64", "of formation: runs that had not formed by then, which count as the horizon"),
        Column("note", "string", "why there is no share; null if there is one"),
    ),
)
"""What makes the runs of one arm differ: one row an outcome, arm and factor."""

MATCHES = Table(
    "match",
    (
        Column("other", "string", "the run that it is matched with, like `run`"),
        Column("other_step", "Int64", "optimiser steps that one had taken"),
        Column("relation", "string", "of the other run to this one: teacher, twin, or chosen"),
        *METRIC_COLUMNS,
        Column("layer", "Int64", "layer of the head, from 0; null: the mean over matched heads"),
        HEAD,
        Column("other_layer", "Int64", "layer of the other run's head; null likewise"),
        Column("other_head", "Int64", "that head within its layer"),
        Column("matched", "boolean", "whether the best one-to-one assignment pairs these two"),
        Column("untrained", "float64", "of a match: mean similarity to what untrained networks match it with"),
        Column("p", "float64", "share of untrained networks of which any match comes as high; small: not by chance"),
        Column("shuffled", "float64", "of a match: mean similarity once the other's sequences are shuffled, rematched"),
        Column("p_shuffled", "float64", "share of shuffles that come as high, times matched heads; 1: position alone"),
        Column("relabelled", "float64", "of a match: mean similarity over all labellings of the other's heads"),
        Column("initial", "float64", "of twins: similarity of the two at step 0; high: shared since the same weights"),
    ),
)
"""One row a pair of heads, the run's columns in front, and one of each pair of runs."""

DYNAMICS = Table(
    "dynamics",
    (
        *(c for c in RUN_COLUMNS if c.name in ("run", "arm", "seed")),
        Column("metric", "string", "the part: a score, of the head furthest beyond its null, or copy accuracy"),
        Column("formed", "boolean", "whether it has formed; false: not by the last evaluation"),
        Column("step", "Int64", "formation step, first of three evaluations at the threshold; not formed: the last"),
        Column("tokens", "Int64", "predictions trained on by then"),
        Column("before", "Int64", "last evaluation before that step: it formed in between; null: none, or not formed"),
        Column(
            "crossing", "float64", "where the straight line from there to it passes the threshold; null: not formed"
        ),
        Column("threshold", "float64", "from which value on it has formed; null: it never rises enough to have one"),
        Column("end", "float64", "last value: of a score, how far it is beyond its null"),
        Column("rise", "float64", "steps from 10 % to 90 % of the way from first to last value; null: not formed"),
        Column("order", "Int64", "place among the parts of the copy circuit, 1 first; null: no such part, not formed"),
        Column("lead", "float64", "steps from its crossing to that of copy accuracy; null: either has not formed"),
        Column("last", "Int64", "step of the last evaluation: how far it was followed"),
    ),
)
"""When each part of a run forms: one row a run and part."""

DYNAMICS_TWINS = Table(
    "dynamics-twins",
    (
        *(c for c in DYNAMICS.columns if c.name == "metric"),
        Column("what", "string", "column of `dynamics` that is compared: crossing, rise or lead"),
        *(c for c in COMPARISON.columns if c.name != "metric"),
    ),
)
"""Every arm against its baseline, twin by twin: one row an arm, a part and what is compared, in steps."""

EARLY_WARNING = Table(
    "early-warning",
    (
        Column("arm", "string", "treatment"),
        Column("metric", "string", "the predictor: a score, of the head furthest beyond its null, or copy accuracy"),
        Column("share", "float64", "of training after which it is taken"),
        Column("seen", "Int64", "step of that evaluation, the last by then that all seeds have"),
        Column("n", "Int64", "seeds, each predicted from the others"),
        Column("already", "Int64", "seeds in which copying had formed by then: no early warning of those"),
        Column("censored", "Int64", "seeds in which it does not form at all: they count as the last evaluation"),
        Column("error", "float64", "mean absolute error of the line fitted to the other seeds, steps"),
        Column("baseline_error", "float64", "that of the mean of the others, steps"),
        Column("skill", "float64", "1 - error / baseline_error: 1 exact, 0 no better than the mean, below 0 worse"),
        Column("by_chance", "float64", "mean skill with predictors dealt out at random: of one that knows nothing"),
        Column("p", "float64", "how often so small an error comes about with predictors dealt out at random"),
        Column("p_holm", "float64", "the same, adjusted for all predictors and shares of the arm"),
        Column("note", "string", "why there is no prediction; null if there is one"),
    ),
)
"""What predicts when copying forms: one row an arm, predictor and share of training."""

LEARNING_SPEED = Table(
    "learning-speed",
    (
        *(c for c in RUN_COLUMNS if c.name in ("run", "arm", "seed")),
        Column("baseline", "string", "of a difference: the arm that is subtracted, seed by seed; else null"),
        *METRIC_COLUMNS,
        ROW,
        ROW_ENTROPY,
        Column("low", "float64", "of a slope over seeds: its 95 % interval (t), lower end; null with fewer than 3"),
        Column("high", "float64", "upper end"),
        Column("p", "float64", "t test of a zero mean over seeds, two-sided"),
        Column("n", "Int64", "seeds, or pairs of them"),
        Column("rows", "Int64", "of a run's slope: rows that it is fitted to"),
        Column("censored", "Int64", "and rows that never get there, which are left out of it"),
    ),
)
"""How soon rows are learned: of every run and row, then a slope of every run and, without run, of every arm."""

PREDICTED_RISK = Table(
    "predicted-risk",
    (
        *RUN_COLUMNS,
        BUCKET,
        Column("measured", "float64", "the run's squared error, by means over positions of ordinary rows"),
        Column("predicted", "float64", "(1-alpha)² · that of its undistilled twin + alpha² · that of its teacher"),
        Column("tabular", "float64", "that of the table that sees the same data and minimises the same objective"),
        Column("baseline", "string", "arm of the undistilled twin"),
    ),
)
"""Squared error foretold from the twin, with nothing fitted: one row a distilled run, checkpoint and bucket."""
SCORECARD = Table(
    "claims",
    (
        Column("claim", "string", "C1 to C12 of arXiv 2509.01649; see `stats.claims`"),
        Column("statement", "string", "what it says"),
        Column("claim_verdict", "string", "supported, contradicted, inconclusive or not tested, all criteria together"),
        Column("criterion", "string", "what is measured, and what it has to be"),
        Column("check", "string", "manipulation checks, means over seeds with their bounds; null: none"),
        Column("effect", "float64", "estimate over seeds"),
        Column("low", "float64", "its 95 % interval: lower end; null: none"),
        Column("high", "float64", "upper end"),
        Column("n", "Int64", "seeds that all arms of the criterion have"),
        Column("verdict", "string", "of this criterion alone"),
        Column("none", "float64", "value that would be no effect"),
        Column("least", "float64", "smallest effect that meets the criterion; null: any small one does"),
        Column("most", "float64", "largest effect that meets it; null: any large one does"),
        Column("null_effect", "float64", "the same of tables without context with the same data and objective"),
        Column("null_low", "float64", "its interval: lower end"),
        Column("null_high", "float64", "upper end"),
        Column("null_n", "Int64", "seeds of the tables"),
        Column("null_verdict", "string", "what that says of the criterion; null: a table has no such thing"),
        Column("arms", "string", "which arm plays which role"),
        Column("note", "string", "why it is not tested, or has no interval; null otherwise"),
    ),
)
"""The scorecard: one row a criterion, without the run's columns."""

TRAINED = Table(
    "train",
    (
        *RUN_COLUMNS,
        Column("state", "string", "finished, interrupted, failed or waiting"),
        Column("seconds", "float64", "wall-clock seconds of training, evaluation and writing"),
        Column("path", "string", "directory of the run"),
        *(Column(headline.name, "float64", headline.title) for headline in HEADLINES),
        Column("until", "float64", "copy accuracy at which it had to stop; null: trained to the end of its budget"),
        Column("stopped_at", "float64", "copy accuracy at which it did, on the sequences that decide"),
        Column(ROUTING_PRECISION.name, "float64", "share of routed positions that are copyable; null: routes none"),
        Column(ROUTING_RECALL.name, "float64", "share of copyable positions that are routed; null: routes none"),
        Column("failed_checks", "string", "manipulation checks that it does not pass; null: none"),
    ),
)
"""One row a run; headline metrics are columns of their own."""

CHECK_TABLE = Table(
    "checks",
    (
        *(c for c in RUN_COLUMNS if c.name in ("arm", "seed")),
        Column("teacher", "string", "by whom it is taught"),
        Column("check", "string", "name of a `Check`"),
        Column("value", "float64", "what came of it; null: not known, since the undistilled twin is not finished"),
        Column("low", "float64", "smallest value that passes; null: none"),
        Column("high", "float64", "largest value that passes; null: none"),
        Column("passed", "boolean", "null: not known, or only reported"),
    ),
)
"""Manipulation checks: one row a taught run and check."""

RUNS = Table(
    "runs",
    (
        *RUN_COLUMNS,
        Column("init_seed", "Int64", "seed of the initial weights"),
        Column("data_seed", "Int64", "seed of the training sequences"),
        Column("teacher_seed", "Int64", "seed of its teachers where seeds are crossed; null: `seed`"),
        *(c for c in TRAINED.columns if c.name in ("state", "seconds", "path")),
    ),
)
"""What `runs list` says of each run, besides its experiment."""

TOKEN_MATRICES = Table(
    "token-matrices",
    (
        *RUN_COLUMNS,
        Column("matrix", "string", "QK (query × source) or OV (source × next token)"),
        LAYER,
        HEAD,
        Column("source_layer", "Int64", "of an earlier head through which keys are read; null: keys read the tokens"),
        Column("source_head", "Int64", "likewise: its head"),
        Column("row", "string", "symbol of the token at the query (QK) or at the source (OV)"),
        Column("column", "string", "symbol of the token at the source, or before it (QK), or of the next (OV)"),
        Column("trigger", "boolean", "whether the row's token is a trigger in every sequence"),
        Column("value", "float64", "logits up to the norms' scales, less the row's mean"),
    ),
)
"""A head's full circuits, token by token, at a few checkpoints."""
