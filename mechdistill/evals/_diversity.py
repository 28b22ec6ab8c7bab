"""How different sequences are from one another: distinct n-grams, effective number, and different continuations.

Arithmetic of tokens alone; who generated them, and what of them is valid, is said by the caller.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError


def distinct_n(
    tokens: Int[Tensor, "sequence pos"], n: int, valid: Bool[Tensor, "sequence pos_minus_1"] | None = None
) -> float:
    """Number of different n-grams over the number of all, (pos - n + 1) a sequence.

    With `valid`, which says of every transition whether it is on support (entry i: from pos i to i + 1), only n-grams
    are counted as different of which some occurrence has valid transitions alone; the number of all stays. Range
    (0, 1], with `valid` [0, 1]; uniform draws reach 1 while they are few against vocab^n. It falls the more sequences
    there are of one source (.92 at 4 of a chain may be .19 at 1024), so compare at one number alone.

    Raises `MechdistillError` if n is not between 1 and pos. Source: Li et al. 2016 (distinct-1, distinct-2).
    """
    if not 1 <= n <= tokens.shape[1]:
        raise MechdistillError(f"n={n}: must be between 1 and the {tokens.shape[1]} tokens of a sequence")
    grams = _grams(tokens, n)
    total = grams.shape[0] * grams.shape[1]
    if valid is not None and n > 1:
        grams = grams[valid.unfold(1, n - 1, 1).all(dim=-1)]
    return len(grams.unique()) / total


def ngram_kernel(tokens: Int[Tensor, "sequence pos"], n: int = 2) -> Float[Tensor, "sequence sequence"]:
    """Cosine of the n-gram counts of every two sequences, float64, in [0, 1]; 1 on the diagonal."""
    grams = _grams(tokens, n)
    kinds, index = grams.unique(return_inverse=True)
    counts = torch.zeros(len(tokens), len(kinds), dtype=torch.float64)
    counts.scatter_add_(1, index, torch.ones_like(index, dtype=torch.float64))
    counts /= counts.norm(dim=1, keepdim=True)
    return counts @ counts.T


def vendi_score(kernel: Float[Tensor, "item item"]) -> float:
    """exp(-Σ λ log λ) over all eigenvalues λ of K/n: the effective number of different items.

    `kernel` [n, n] is a similarity with 1 on its diagonal, positive semidefinite. Range [1, n]: 1 where all items are
    alike, n where none has anything in common with another. There is no chance level: hold it against the same
    number of items from the world. Source: Friedman and Dieng 2023 (order 1; the dense kernel, no truncated spectrum).
    """
    eigenvalues = torch.linalg.eigvalsh(kernel.double() / len(kernel)).clamp(min=0.0)  # rounding alone makes them < 0
    return math.exp(float(torch.special.entr(eigenvalues).sum()))


def unique_correct(
    continuations: Int[Tensor, "prompt sample pos"], valid: Bool[Tensor, "prompt sample"], k: int
) -> float:
    """Expected number of different valid continuations among k of a prompt's samples, mean over prompts.

    Σ_c [1 - C(n - m_c, k)/C(n, k)] over the valid continuations c, each drawn m_c times among n samples: the mean over
    all choices of k of them. Range [0, k]; at k = 1 the share that is valid. Chance, of uniform draws: k times the
    share of all continuations that is valid, less collisions.

    Raises `MechdistillError` if k is not between 1 and n. Source: ours; the choice of k as in Chen et al. 2021.
    """
    n = continuations.shape[1]
    if not 1 <= k <= n:
        raise MechdistillError(f"k={k}: must be between 1 and the {n} samples of a prompt")
    seen = [1 - math.comb(n - m, k) / math.comb(n, k) for m in range(n + 1)]
    found = 0.0
    for of_prompt, right in zip(continuations, valid, strict=True):
        _, times = of_prompt[right].unique(dim=0, return_counts=True)
        found += sum(seen[m] for m in times.tolist())
    return found / len(continuations)


def _grams(tokens: Int[Tensor, "sequence pos"], n: int) -> Int[Tensor, "sequence gram"]:
    """Each n-gram as one number, ranked anew at every token, so that none of any length is too large."""
    kinds, rank = tokens.unique(return_inverse=True)
    grams = torch.zeros_like(rank[:, : tokens.shape[1] - n + 1])
    for parts in rank.unfold(1, n, 1).unbind(dim=-1):
        _, grams = (grams * len(kinds) + parts).unique(return_inverse=True)
    return grams
