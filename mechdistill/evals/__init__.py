"""Measures of behaviour: pure functions of a model's predictions on an evaluation set."""

from mechdistill.evals._distillation import describe_targets, objective_metrics, routing_metrics, teacher_metrics
from mechdistill.evals._inline import inline_metrics
from mechdistill.evals._row_curves import measure_row_curves, row_curves, with_floor
from mechdistill.evals._world import describe

__all__ = [
    "describe",
    "describe_targets",
    "inline_metrics",
    "measure_row_curves",
    "objective_metrics",
    "routing_metrics",
    "row_curves",
    "teacher_metrics",
    "with_floor",
]
