"""Asking runs: a measure applied to checkpoints, arms compared over seeds, one prompt looked at."""

from mechdistill.analysis._apply import Applied, Checkpoint, measured
from mechdistill.analysis._arms import arms
from mechdistill.analysis._claims import claims
from mechdistill.analysis._compare import Comparison, compare, compared, outcomes
from mechdistill.analysis._differences import difference_in_differences
from mechdistill.analysis._dynamics import (
    Dynamics,
    all_dynamics,
    compare_dynamics,
    dynamics,
    dynamics_of,
    early_warning,
)
from mechdistill.analysis._match import match_heads
from mechdistill.analysis._matrices import token_matrices
from mechdistill.analysis._progress import progress
from mechdistill.analysis._prompt import Prompt, prompt
from mechdistill.analysis._rows import learning_speed, predicted_risk, risk_of, speed_of
from mechdistill.analysis._source import definitions
from mechdistill.analysis._tabular_null import tabular_null
from mechdistill.analysis._threshold import formation_threshold
from mechdistill.analysis._variance import variance_shares

__all__ = [
    "Applied",
    "Checkpoint",
    "Comparison",
    "Dynamics",
    "Prompt",
    "all_dynamics",
    "arms",
    "claims",
    "compare",
    "compare_dynamics",
    "compared",
    "definitions",
    "difference_in_differences",
    "dynamics",
    "dynamics_of",
    "early_warning",
    "formation_threshold",
    "learning_speed",
    "match_heads",
    "measured",
    "outcomes",
    "predicted_risk",
    "progress",
    "prompt",
    "risk_of",
    "speed_of",
    "tabular_null",
    "token_matrices",
    "variance_shares",
]
