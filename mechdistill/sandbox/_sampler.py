"""Walker's alias method, vectorised over whole chunks of sequences.

A categorical draw costs one uniform number, one comparison and one table look-up whatever the vocabulary, so a
chunk of sequences advances one position in a handful of numpy calls.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class AliasTable(NamedTuple):
    """Draw from row i: pick a column uniformly, keep it with probability `keep`, else take its alias."""

    keep: NDArray[np.float64]  # [row, token], in [0, 1]
    alias: NDArray[np.int64]  # [row, token]


def alias_table(probs: NDArray[np.float64]) -> AliasTable:
    """Alias tables of the rows of `probs` [row, token] (Vose 1991): exact up to float64 rounding."""
    n_rows, k = probs.shape
    keep = np.ones((n_rows, k))
    alias = np.tile(np.arange(k), (n_rows, 1))
    for i in range(n_rows):
        scaled = probs[i] / probs[i].sum() * k
        small = [j for j in range(k) if scaled[j] < 1]
        large = [j for j in range(k) if scaled[j] >= 1]
        while small and large:
            s, g = small.pop(), large[-1]
            keep[i, s], alias[i, s] = scaled[s], g
            scaled[g] -= 1 - scaled[s]
            if scaled[g] < 1:
                small.append(large.pop())
        # what is left equals 1 up to rounding; but a column of zero probability must never be kept
        for j in small:
            if probs[i, j] == 0:
                keep[i, j], alias[i, j] = 0.0, int(probs[i].argmax())
    return AliasTable(keep, alias)


def draw(table: AliasTable, row: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """One token from each of the rows `row` [n], using one uniform number in [0, 1) each."""
    k = table.keep.shape[1]
    scaled = uniform * k
    column = scaled.astype(np.int64)
    index = row * k + column
    return np.where(scaled - column < table.keep.ravel()[index], column, table.alias.ravel()[index])
