"""How many times the baseline: the ratio of two paired means, with Fieller's interval."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from mechdistill.stats._paired import MIN_PAIRS, finite, has_spread


class Ratio(NamedTuple):
    """A ratio of means over n pairs; low, high are nan where there is no interval, ratio where there is no ratio."""

    n: int
    ratio: float
    low: float
    high: float


def ratio_of_means(values: npt.ArrayLike, baseline: npt.ArrayLike, level: float = 0.95) -> Ratio:
    """mean(values) / mean(baseline) of twins [n], [n]; 1 where the arm changes nothing.

    The interval holds every ρ that `paired(values - ρ·baseline)` does not reject at 1 - level: exact for about normal
    pairs, and it excludes 1 exactly when the paired t test of the difference finds one. No interval for fewer than 3
    pairs, for proportional twins (values - ratio·baseline without spread, see `paired`), and where mean(baseline) is
    not itself different from zero at 1 - level, which leaves the set of ρ unbounded.

    Raises MechdistillError for values that are not finite. Source: Fieller 1954.
    """
    a, b = finite(values, "values"), finite(baseline, "baseline")
    n = len(a)
    ratio = float(a.mean() / b.mean()) if n and b.mean() != 0 else math.nan
    if n < MIN_PAIRS or math.isnan(ratio) or not has_spread(a - ratio * b):
        return Ratio(n, ratio, math.nan, math.nan)
    # |mean(a - ρb)| <= t·sd(a - ρb)/√n, squared: square·ρ² - 2·linear·ρ + constant <= 0
    t_squared = float(stats.t.ppf((1 + level) / 2, n - 1)) ** 2
    covariance = np.cov(a, b)
    square = float(b.mean() ** 2 - t_squared / n * covariance[1, 1])
    linear = float(a.mean() * b.mean() - t_squared / n * covariance[0, 1])
    constant = float(a.mean() ** 2 - t_squared / n * covariance[0, 0])
    if square <= 0:
        return Ratio(n, ratio, math.nan, math.nan)
    half_width = math.sqrt(max(linear**2 - square * constant, 0.0))
    return Ratio(n, ratio, (linear - half_width) / square, (linear + half_width) / square)
