"""Order that does not hang on roundings, which differ from one processor's kernels to another's."""

import numpy as np
from numpy.typing import NDArray

DIGITS = 9


def descending(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices by value, largest first; what is equal to 9 digits of the largest magnitude comes by its index.

    Values are equal if no gap between neighbours in their order exceeds that, so that no rounding boundary can fall
    between two roundings of one number.
    """
    order = np.argsort(-values, kind="stable")
    gaps = -np.diff(values[order])
    group = np.concatenate(([0], np.cumsum(gaps > np.abs(values).max() * 10.0**-DIGITS)))
    return order[np.lexsort((order, group))]
