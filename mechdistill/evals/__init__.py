"""Measures of behaviour: pure functions of a model's predictions on an evaluation set."""

from mechdistill.evals._distillation import describe_targets, objective_metrics, routing_metrics, teacher_metrics
from mechdistill.evals._estimate import estimated_pass_at_k
from mechdistill.evals._inline import inline_metrics
from mechdistill.evals._pass_at_k import measure_pass_at_k, pass_at_k
from mechdistill.evals._row_curves import measure_row_curves, row_curves, with_floor
from mechdistill.evals._world import describe

__all__ = [
    "describe",
    "describe_targets",
    "estimated_pass_at_k",
    "inline_metrics",
    "measure_pass_at_k",
    "measure_row_curves",
    "objective_metrics",
    "pass_at_k",
    "routing_metrics",
    "row_curves",
    "teacher_metrics",
    "with_floor",
]
