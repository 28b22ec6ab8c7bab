"""Measures of behaviour: pure functions of a model's predictions on an evaluation set."""

from mechdistill.evals._inline import inline_metrics
from mechdistill.evals._row_curves import row_curves
from mechdistill.evals._world import describe

__all__ = ["describe", "inline_metrics", "row_curves"]
