"""Tables in, plotly figures out. A measure's figure is named in its entry; without one `plain_figure` draws it."""

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._ablation import ablation_figure
from mechdistill.plots._arms import Look, arm_colours
from mechdistill.plots._comparison import comparison_figure
from mechdistill.plots._heads import induction_scores_figure
from mechdistill.plots._plain import plain_figure
from mechdistill.plots._row_curves import row_curves_figure
from mechdistill.plots._style import to_html
from mechdistill.plots._world import sandbox_figure
from mechdistill.tables import Measure, resolve


def figure(measure: Measure, table: pd.DataFrame) -> go.Figure:
    """A measure's own figure, or the plain one."""
    return plain_figure(measure, table) if measure.figure is None else resolve(measure.figure)(table)


__all__ = [
    "Look",
    "ablation_figure",
    "arm_colours",
    "comparison_figure",
    "figure",
    "induction_scores_figure",
    "plain_figure",
    "row_curves_figure",
    "sandbox_figure",
    "to_html",
]
