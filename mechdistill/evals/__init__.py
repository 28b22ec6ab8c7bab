"""Measures of behaviour: pure functions of a model's predictions on an evaluation set."""

from mechdistill.evals._distillation import describe_targets, objective_metrics, routing_metrics, teacher_metrics
from mechdistill.evals._diversity import distinct_n, ngram_kernel, unique_correct, vendi_score
from mechdistill.evals._estimate import estimated_pass_at_k
from mechdistill.evals._generated import diversity, measure_diversity
from mechdistill.evals._in_context import in_context, measure_in_context
from mechdistill.evals._inline import inline_metrics
from mechdistill.evals._pass_at_k import measure_pass_at_k, pass_at_k
from mechdistill.evals._problems import CHAINS, HIDDEN_TARGET
from mechdistill.evals._row_curves import measure_row_curves, row_curves, with_floor
from mechdistill.evals._support import SUPPORT_MASS, on_support
from mechdistill.evals._world import describe

__all__ = [
    "CHAINS",
    "HIDDEN_TARGET",
    "SUPPORT_MASS",
    "describe",
    "describe_targets",
    "distinct_n",
    "diversity",
    "estimated_pass_at_k",
    "in_context",
    "inline_metrics",
    "measure_diversity",
    "measure_in_context",
    "measure_pass_at_k",
    "measure_row_curves",
    "ngram_kernel",
    "objective_metrics",
    "on_support",
    "pass_at_k",
    "routing_metrics",
    "row_curves",
    "teacher_metrics",
    "unique_correct",
    "vendi_score",
    "with_floor",
]
