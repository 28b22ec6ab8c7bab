"""What differs between twins, and how sure we are: paired intervals and tests, formation times, arms compared."""

from mechdistill.stats._checks import Taught, manipulation_checks
from mechdistill.stats._compare import adjusted, compare_formation, compare_twins
from mechdistill.stats._differences import Contrast, difference_in_differences
from mechdistill.stats._dynamics import compare_dynamics, dynamics, rise_time
from mechdistill.stats._early import MIN_SEEDS, early_warning, held_out_predictions
from mechdistill.stats._formation import formation_steps, formation_tokens
from mechdistill.stats._holm import holm
from mechdistill.stats._matched import Matched, matched_pass_at_k
from mechdistill.stats._paired import MIN_PAIRS, Interval, Paired, bca, paired
from mechdistill.stats._quantities import QUANTITIES, Context, quantities
from mechdistill.stats._ratio import Ratio, ratio_of_means
from mechdistill.stats._restricted import formation_ratio, restricted_mean, restricted_steps
from mechdistill.stats._risk import predicted_risk
from mechdistill.stats._roles import SPT, Candidate, candidates, cast
from mechdistill.stats._row_gain import RowGain, low_entropy_ratio, row_gain_slope
from mechdistill.stats._scorecard import CONTRADICTED, INCONCLUSIVE, NOT_TESTED, SUPPORTED, Case, scorecard
from mechdistill.stats._speed import learning_speed, tokens_to
from mechdistill.stats._support import SupportSlope, support_slope
from mechdistill.stats._twins import students
from mechdistill.stats._variance import MIN_LEVELS, Component, Values, variance_shares

__all__ = [
    "CONTRADICTED",
    "INCONCLUSIVE",
    "MIN_LEVELS",
    "MIN_PAIRS",
    "MIN_SEEDS",
    "NOT_TESTED",
    "QUANTITIES",
    "SPT",
    "SUPPORTED",
    "Candidate",
    "Case",
    "Component",
    "Context",
    "Contrast",
    "Interval",
    "Matched",
    "Paired",
    "Ratio",
    "RowGain",
    "SupportSlope",
    "Taught",
    "Values",
    "adjusted",
    "bca",
    "candidates",
    "cast",
    "compare_dynamics",
    "compare_formation",
    "compare_twins",
    "difference_in_differences",
    "dynamics",
    "early_warning",
    "formation_ratio",
    "formation_steps",
    "formation_tokens",
    "held_out_predictions",
    "holm",
    "learning_speed",
    "low_entropy_ratio",
    "manipulation_checks",
    "matched_pass_at_k",
    "paired",
    "predicted_risk",
    "quantities",
    "ratio_of_means",
    "restricted_mean",
    "restricted_steps",
    "rise_time",
    "row_gain_slope",
    "scorecard",
    "students",
    "support_slope",
    "tokens_to",
    "variance_shares",
]
