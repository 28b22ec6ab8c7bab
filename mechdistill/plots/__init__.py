"""Tables in, plotly figures out. A measure's figure is named in its entry; without one `plain_figure` draws it.

Figures carry the colours of a light page; `to_html` and `DARK_SCRIPT` put those of a dark one in their place.
"""

from mechdistill.plots._ablation import ablation_figure
from mechdistill.plots._arms import Look, arm_colours
from mechdistill.plots._circuits import circuits_figure
from mechdistill.plots._claims import claims_figure
from mechdistill.plots._colours import DARK
from mechdistill.plots._comparison import comparison_figure
from mechdistill.plots._composition import composition_figure
from mechdistill.plots._copying import copying_figure
from mechdistill.plots._diversity import diversity_figure
from mechdistill.plots._dynamics import head_dynamics_figure
from mechdistill.plots._early import early_warning_figure
from mechdistill.plots._excess import copy_excess_figure
from mechdistill.plots._figures import FIGURES, Drawing, drawings, figure
from mechdistill.plots._files import DARK_SCRIPT, PAGE, PICTURES, browser, to_bytes, to_html
from mechdistill.plots._formation import formation_figure
from mechdistill.plots._heads import induction_scores_figure
from mechdistill.plots._in_context import in_context_figure
from mechdistill.plots._matching import matching_figure
from mechdistill.plots._matrices import token_matrices_figure
from mechdistill.plots._outputs import head_outputs_figure, layer_outputs_figure
from mechdistill.plots._pass_at_k import pass_at_k_figure
from mechdistill.plots._plain import plain_figure
from mechdistill.plots._risk import predicted_risk_figure
from mechdistill.plots._routing import routing_figure
from mechdistill.plots._row_curves import row_curves_figure
from mechdistill.plots._speed import learning_speed_figure
from mechdistill.plots._variance import variance_figure
from mechdistill.plots._world import sandbox_figure

__all__ = [
    "DARK",
    "DARK_SCRIPT",
    "FIGURES",
    "PAGE",
    "PICTURES",
    "Drawing",
    "Look",
    "ablation_figure",
    "arm_colours",
    "browser",
    "circuits_figure",
    "claims_figure",
    "comparison_figure",
    "composition_figure",
    "copy_excess_figure",
    "copying_figure",
    "diversity_figure",
    "drawings",
    "early_warning_figure",
    "figure",
    "formation_figure",
    "head_dynamics_figure",
    "head_outputs_figure",
    "in_context_figure",
    "induction_scores_figure",
    "layer_outputs_figure",
    "learning_speed_figure",
    "matching_figure",
    "pass_at_k_figure",
    "plain_figure",
    "predicted_risk_figure",
    "routing_figure",
    "row_curves_figure",
    "sandbox_figure",
    "to_bytes",
    "to_html",
    "token_matrices_figure",
    "variance_figure",
]
