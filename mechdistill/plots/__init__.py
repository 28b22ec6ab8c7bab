"""Tables in, plotly figures out."""

from mechdistill.plots._ablation import ablation_figure
from mechdistill.plots._comparison import comparison_figure
from mechdistill.plots._heads import induction_scores_figure
from mechdistill.plots._row_curves import row_curves_figure
from mechdistill.plots._style import arm_colours, to_html
from mechdistill.plots._world import sandbox_figure

__all__ = [
    "ablation_figure",
    "arm_colours",
    "comparison_figure",
    "induction_scores_figure",
    "row_curves_figure",
    "sandbox_figure",
    "to_html",
]
