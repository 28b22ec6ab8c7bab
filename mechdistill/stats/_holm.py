"""Holm's correction for asking many questions of one study."""

import numpy as np
import numpy.typing as npt


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Adjusted p-values [m] of a family p [m]: rejecting those <= a keeps the chance of any false rejection <= a.

    With p_(1) <= ... <= p_(m): adjusted_(i) = max over j <= i of min(1, (m-j+1)·p_(j)). Range [p, 1]. nan is a
    question that was not asked: it stays nan and does not count in m. Source: Holm 1979.
    """
    p = np.asarray(p, dtype=np.float64)
    asked = np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    adjusted = np.full_like(p, np.nan)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)).clip(max=1.0)
    return adjusted
