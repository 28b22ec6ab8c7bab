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
    """Alias tables of the rows of `probs` [row, token] (Vose 1991): exact up to float64 rounding.

    All rows take their steps together; a row has at most as many as it has tokens.
    """
    n_rows, k = probs.shape
    scaled = probs / np.array([row.sum() for row in probs])[:, None] * k
    keep, alias = np.ones((n_rows, k)), np.tile(np.arange(k), (n_rows, 1))
    small, n_small = _stacks(scaled < 1)
    large, n_large = _stacks(scaled >= 1)
    while len(row := np.flatnonzero((n_small > 0) & (n_large > 0))):
        n_small[row] -= 1
        s, g = small[row, n_small[row]], large[row, n_large[row] - 1]
        keep[row, s], alias[row, s] = scaled[row, s], g
        scaled[row, g] -= 1 - scaled[row, s]
        shrunk = scaled[row, g] < 1
        row, g = row[shrunk], g[shrunk]
        small[row, n_small[row]] = g
        n_small[row] += 1
        n_large[row] -= 1
    # what is left equals 1 up to rounding; but a column of zero probability must never be kept
    left = np.flatnonzero(n_small)
    for i in left:
        zero = [j for j in small[i, : n_small[i]] if probs[i, j] == 0]
        keep[i, zero], alias[i, zero] = 0.0, int(probs[i].argmax())
    return AliasTable(keep, alias)


def _stacks(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each row, the chosen columns in ascending order, and how many they are."""
    return np.argsort(~chosen, axis=1, kind="stable"), chosen.sum(axis=1)


def draw(table: AliasTable, row: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
    """One token from each of the rows `row` [n], using one uniform number in [0, 1) each."""
    k = table.keep.shape[1]
    scaled = uniform * k
    column = scaled.astype(np.int64)
    index = row * k + column
    return np.where(scaled - column < table.keep.ravel()[index], column, table.alias.ravel()[index])
