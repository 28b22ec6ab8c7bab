"""Every figure as a record, in the order in which a report shows them.

To add one: a function from tables to a figure, and a line here. What draws a measure takes its table by name, so that
a measure of a user's file, which no figure here names, is drawn too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._ablation import ablation_figure
from mechdistill.plots._circuits import circuits_figure
from mechdistill.plots._claims import claims_figure
from mechdistill.plots._comparison import comparison_figure
from mechdistill.plots._composition import composition_figure
from mechdistill.plots._copying import copying_figure
from mechdistill.plots._diversity import diversity_figure
from mechdistill.plots._dynamics import head_dynamics_figure
from mechdistill.plots._early import early_warning_figure
from mechdistill.plots._excess import copy_excess_figure
from mechdistill.plots._formation import formation_figure
from mechdistill.plots._heads import induction_scores_figure
from mechdistill.plots._in_context import in_context_figure
from mechdistill.plots._matching import matching_figure
from mechdistill.plots._outputs import head_outputs_figure, layer_outputs_figure
from mechdistill.plots._pass_at_k import pass_at_k_figure
from mechdistill.plots._plain import plain_figure
from mechdistill.plots._risk import predicted_risk_figure
from mechdistill.plots._routing import routing_figure
from mechdistill.plots._row_curves import row_curves_figure
from mechdistill.plots._speed import learning_speed_figure
from mechdistill.plots._variance import variance_figure
from mechdistill.registry import Registry
from mechdistill.tables import (
    ABLATE,
    CIRCUITS,
    COMPARISON,
    DIVERSITY,
    DYNAMICS,
    EARLY_WARNING,
    IN_CONTEXT,
    INDUCTION_SCORES,
    LEARNING_SPEED,
    MATCHES,
    MEASURES,
    METRICS_LOG,
    PASS_AT_K,
    PREDICTED_RISK,
    ROW_CURVES,
    SCORECARD,
    VARIANCE,
    Measure,
    last_step,
    resolve,
)


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn of an experiment."""

    name: str
    heading: str
    """What it shows, in a few words."""
    tables: tuple[str, ...]
    """Names of the tables that it takes, in this order: measures, `metrics` of all runs, `compare`, `dynamics`, ..."""
    draw: Callable[..., go.Figure | None]
    """Those tables -> the figure, or None where there is nothing to draw."""
    per_run: bool = False
    """Whether it has a panel for each run, so that one seed may be enough."""
    checkpoint: Literal["last", "all"] | None = None
    """Of which its measures are taken; None: of each measure's own choice."""


def _last_scores(table: pd.DataFrame) -> go.Figure:
    """The heat maps without their slider."""
    return induction_scores_figure(last_step(table))


_SCORES = (INDUCTION_SCORES.name,)

FIGURES: Registry[Drawing] = Registry(
    "figure",
    (
        Drawing("copying", "How copying is learned", (METRICS_LOG.name,), copying_figure),
        Drawing("claims", "Which of the paper's claims hold", (SCORECARD.name,), claims_figure),
        Drawing("head-scores", "What each head does", _SCORES, _last_scores, per_run=True, checkpoint="all"),
        Drawing("head-dynamics", "When the copy circuit forms", _SCORES, head_dynamics_figure, checkpoint="all"),
        Drawing("composition", "Which heads read which", _SCORES, composition_figure, per_run=True, checkpoint="all"),
        Drawing("head-outputs", "What each head says", _SCORES, head_outputs_figure, per_run=True, checkpoint="all"),
        Drawing("layer-outputs", "After which layer it is known", _SCORES, layer_outputs_figure, checkpoint="all"),
        Drawing("formation", "Which part forms first", (DYNAMICS.name,), formation_figure),
        Drawing("early-warning", "What says early when copying will form", (EARLY_WARNING.name,), early_warning_figure),
        Drawing("ablation", "What the heads are needed for", (ABLATE.name,), ablation_figure, per_run=True),
        Drawing("circuits", "Which head reads what of which", (CIRCUITS.name,), circuits_figure, per_run=True),
        Drawing("matching", "Whose heads do what whose heads do", (MATCHES.name,), matching_figure, per_run=True),
        Drawing("rows", "How each row is learned", (ROW_CURVES.name,), row_curves_figure),
        Drawing("row-risk", "What distilling should do to rows", (PREDICTED_RISK.name,), predicted_risk_figure),
        Drawing("row-speed", "How soon rows are learned", (LEARNING_SPEED.name,), learning_speed_figure),
        Drawing("copy-excess-by-occurrence", "What copying costs", (ROW_CURVES.name,), copy_excess_figure),
        Drawing("prompts", "What is taken from the prompt", (IN_CONTEXT.name,), in_context_figure),
        Drawing("generated", "How different what is generated is", (DIVERSITY.name,), diversity_figure),
        Drawing(PASS_AT_K.name, "How likely one of k samples is right", (PASS_AT_K.name,), pass_at_k_figure),
        Drawing("routing", "What routing picks", (METRICS_LOG.name,), routing_figure),
        Drawing("variance", "What makes runs of one arm differ", (VARIANCE.name,), variance_figure),
        Drawing("comparison", "What distillation changed", (COMPARISON.name,), comparison_figure),
    ),
)
"""By name."""


def drawings() -> list[Drawing]:
    """Every figure there is: the registered ones, then one for each measure that none of them takes."""
    taken = {name for drawing in FIGURES.values() for name in drawing.tables}
    return [*FIGURES.values(), *(_of(measure) for name, measure in MEASURES.items() if name not in taken)]


def figure(measure: Measure, table: pd.DataFrame) -> go.Figure:
    """A measure's own figure, or the plain one."""
    return plain_figure(measure, table) if measure.figure is None else resolve(measure.figure)(table)


def _of(measure: Measure) -> Drawing:
    return Drawing(measure.name, measure.question, (measure.name,), partial(figure, measure))
