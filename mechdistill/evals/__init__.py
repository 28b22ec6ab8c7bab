"""Measures of behaviour: pure functions of a model's predictions on an evaluation set."""

from mechdistill.evals._inline import inline_metrics
from mechdistill.evals._row_curves import row_curves

__all__ = ["inline_metrics", "row_curves"]
