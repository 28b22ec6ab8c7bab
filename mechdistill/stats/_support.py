"""How much fewer data a row takes with a perfect teacher, by how many non-zeros it has: the paper's proposition."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mechdistill.errors import MechdistillError
from mechdistill.stats._speed import tokens_to
from mechdistill.stats._twins import require_arm
from mechdistill.tables import metrics

ERROR = 0.3
"""epsilon, the error to reach unless another is asked for."""
_FEWEST = 3  # sizes of a fit


class SupportSlope(NamedTuple):
    """Of one pair of twins."""

    slope: float
    """nan where fewer than 3 sizes of rows get there in both."""
    sizes: int
    """Numbers of non-zeros whose rows reach the error in both."""
    censored: int
    """Those whose rows do not: the slope is over the others, and says less."""


def support_slope(
    row_curves: pd.DataFrame, support: Mapping[int, int], arm: str, baseline: str, error: float = ERROR
) -> dict[int, SupportSlope]:
    """Slope of log(tokens of the baseline / tokens of the arm to reach an error) on log p: seed -> `SupportSlope`.

    `support`: row -> p, its number of non-zeros. A row's error is sqrt(p · squared error), at least its L1 error
    (Cauchy-Schwarz), and in rows of equal p the mean over rows is followed: when one noisy row first passes a level
    says little. Of a count table after n visits to uniform rows it is about sqrt((p - 1) / n), so that it takes
    (p - 1)/ε² visits, and with a perfect teacher and alpha = 1 the first one: slope 1, but for p - 1 in the place of p
    and for rows that nobody has visited, whose error depends on p / vocab. *Measured* over 6 seeds of p = 16 to 128
    among 512 tokens: 1.04 (1.00 to 1.10) at ε = .3, 1.03 at .2, .99 at .1; of 8 to 64 among 256 it is 1.2. With
    alpha < 1 it is near 1 only while ε is above sqrt(p)·(1 - alpha); below both wait for their labels, and it goes to
    0, which is also what an effect that does not hang on p comes to.

    `row_curves` at all checkpoints. Raises `MechdistillError` for an arm that is not there, and for an `error` that is
    not above 0. Source: claim C12, the proposition of arXiv 2509.01649.
    """
    if not error > 0:
        raise MechdistillError(f"error={error}: must be above 0")
    require_arm(row_curves, arm)
    require_arm(row_curves, baseline)
    reached = {who: _reached(row_curves[row_curves["arm"] == who], support, error) for who in (arm, baseline)}
    found: dict[int, SupportSlope] = {}
    for seed in sorted({seed for seed, _ in reached[arm]} & {seed for seed, _ in reached[baseline]}):
        both = [size for of, size in reached[arm] if of == seed and (seed, size) in reached[baseline]]
        sizes = np.array(sorted(both), dtype=np.float64)
        ratios = np.array([reached[baseline][seed, int(p)] / reached[arm][seed, int(p)] for p in sizes])
        there = np.isfinite(ratios)
        slope = np.nan
        if there.sum() >= _FEWEST:
            slope = float(np.polyfit(np.log(sizes[there]), np.log(ratios[there]), 1)[0])
        found[seed] = SupportSlope(slope, int(there.sum()), int((~there).sum()))
    return found


def _reached(of_arm: pd.DataFrame, support: Mapping[int, int], error: float) -> dict[tuple[int, int], float]:
    """Tokens until the mean error is reached, nan where it is not, by seed and number of non-zeros."""
    rows = of_arm[of_arm["row"].notna() & (of_arm["metric"] == metrics.SQUARED_ERROR.name)]
    size = rows["row"].astype(int).map(dict(support))
    rows = rows.assign(size=size, value=np.sqrt(rows["value"].astype(float) * size))
    curves: Any = rows.groupby(["seed", "size", "tokens"])["value"].mean().reset_index().groupby(["seed", "size"])
    return {(int(seed), int(p)): tokens_to(curve["tokens"], curve["value"], error) for (seed, p), curve in curves}
