"""pass@k: estimated from n samples of which c are right, exact from the chance of being right, and at its best."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.arguments import whole
from mechdistill.errors import MechdistillError, quoted


def estimated_pass_at_k(n: Any, c: Any, k: Any) -> np.float64 | NDArray[np.float64]:
    """The unbiased estimate of pass@k from `n` samples of a problem of which `c` are right: 1 - C(n-c, k) / C(n, k).

    1 where n - c < k, else -expm1(Σ log1p(-k/i)) over i = n-c+1 .. n, or the same with c and k in each other's place,
    whichever has fewer terms. `n` and `c` are whole numbers or arrays of them; the result has their common shape. Range
    [0, 1]; what guesses right with chance p comes to 1 - (1-p)^k on average. Within 1e-12 of the exact fraction,
    relatively, up to n = 1e6.

    Raises `MechdistillError` for a k that is no whole number from 1 to n (popular code gives 1 where k > n), for c
    above n or below 0, for n = 0, and for anything that is not whole. Source: Chen et al. 2021 (arXiv 2107.03374).
    """
    samples, right = np.broadcast_arrays(_whole(n, "n"), _whole(c, "c"))
    k = whole(k, "k", 1)
    for wrong, rule in (
        (samples < 1, "n must be at least 1; draw samples first"),
        (right < 0, "c must be at least 0"),
        (right > samples, "c must be at most n, the number of samples"),
        (samples < k, f"k={k} must be at most n, since k of n samples are taken; draw more, or lower k"),
    ):
        if wrong.any():
            raise MechdistillError(f"n={samples[wrong][0]}, c={right[wrong][0]}: {rule}")
    pairs, where = np.unique(np.stack([samples.ravel(), right.ravel()]), axis=1, return_inverse=True)
    values = np.array([_estimated(int(n), int(c), k) for n, c in pairs.T], dtype=np.float64)
    return values[where].reshape(samples.shape)[()]


def _estimated(n: int, c: int, k: int) -> float:
    if n - c < k:
        return 1.0
    fewer, more = sorted((c, k))
    return float(-np.expm1(np.log1p(-more / np.arange(n - fewer + 1, n + 1)).sum()))


def _whole(value: Any, name: str) -> NDArray[np.int64]:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise MechdistillError(f"{name}={quoted(value)}: must be whole numbers")
    return array.astype(np.int64)


def exact_pass_at_k(p: Float[Tensor, "*any"], k: int) -> Float[Tensor, "*any"]:
    """1 - (1-p)^k: the chance that one of k samples is right, each with chance `p`; in [0, 1], p itself at k = 1.

    Computed as -expm1(k·log1p(-p)), so that small chances lose nothing.
    """
    return -torch.expm1(k * torch.log1p(-p))


def best_law(weight: Float[Tensor, "problem path"], k: int) -> Float[Tensor, "problem path"]:
    """The law q over paths that makes Σ w·(1-(1-q)^k) largest, where w (rows sum to 1) says which is the hidden one.

    k = 1: all on the likeliest, the first of those that tie. Else q = 1 - (m-1)·w^{-1/(k-1)} / Σ_S w^{-1/(k-1)} on the
    support S of the m likeliest, 0 elsewhere, with the largest m that leaves every q above 0 (the condition of
    Karush, Kuhn and Tucker: w·(1-q)^{k-1} is the same wherever q > 0, and no larger elsewhere). It is flatter than w
    itself: from many samples, spread pays.
    """
    ordered, order = weight.sort(dim=1, descending=True, stable=True)
    rank = torch.arange(1, weight.shape[1] + 1, dtype=weight.dtype)
    if k == 1:
        best = (rank == 1).to(weight).expand_as(weight)
    else:
        flat = -ordered.log() / (k - 1)  # log w^{-1/(k-1)}, infinite where w is 0
        total = flat.logcumsumexp(dim=1)
        left = (rank - 1).log() + flat  # log of (m-1)·w_m^{-1/(k-1)}
        size = ((left < total) & (ordered > 0)).sum(dim=1, keepdim=True)  # such m are the first ones
        at_best = total.gather(1, size - 1)
        best = torch.where(rank <= size, -torch.expm1((size - 1).to(weight).log() + flat - at_best), 0.0)
    return torch.zeros_like(weight).scatter(1, order, best)


def best_pass_at_k(weight: Float[Tensor, "problem path"], k: int) -> Float[Tensor, " problem"]:
    """What `best_law` comes to, Σ w·(1-(1-q)^k): the most that any law of samples can; in [0, 1], rising with k."""
    return (weight * exact_pass_at_k(best_law(weight, k), k)).sum(dim=1)


def majority_vote(
    weight: Float[Tensor, "problem answer"], law: Float[Tensor, "problem answer"], n: int
) -> Float[Tensor, " problem"]:
    """Accuracy of the commonest of n samples from `law`, where `weight` is how likely each answer is the right one.

    Exact: Σ_y w_y·P(y is the commonest), ties broken uniformly among the tied. With e_c(t) = Σ_{i<c} t^i/i! the others
    stay below c in e_c(q·x), and each tie adds u·(q·x)^c/c!; since ∫u^j du over [0, 1] = 1/(j+1), which is the share
    that a tie among j+1 gives,

        P(y is the commonest) = n! Σ_c q_y^c/c! ∫ [x^{n-c}] Π_{z≠y} (e_c(q_z·x) + u·(q_z·x)^c/c!) du.

    All terms are positive, and Gauss-Legendre nodes give the integral of a polynomial exactly. Range [0, 1]; chance
    (uniform samples) is the mean weight; tends to the weight of the likeliest answer as n grows.
    """
    count, node, share = _counts_and_nodes(n)
    factorial = torch.cat([torch.ones(1), torch.arange(1.0, n + 1)]).double().cumprod(0)
    power = torch.arange(n + 1)
    # weights of i samples of an answer while the commonest has c: all below c, u at c, none above
    admitted = (power < count[:, None]).double() + torch.where(power == count[:, None], node[:, None], 0.0)
    admitted = admitted / factorial  # [case, i]
    others = torch.zeros(len(law), len(count), n + 1, dtype=torch.float64)  # coefficients of x, of answers so far
    others[..., 0] = 1.0
    chosen = torch.zeros_like(others)  # the same, with one of them the commonest
    for q, w in zip(law.double().T, weight.double().T, strict=True):
        powers = q[:, None] ** power  # [problem, i]
        factor = admitted * powers[:, None]  # [problem, case, i]
        alone = w[:, None] * powers[:, count] / factorial[count]  # [problem, case]
        marked = torch.zeros_like(others)
        for c in count.unique().tolist():
            of = count == c
            marked[:, of, c:] = others[:, of, : n + 1 - c] * alone[:, of, None]
        chosen = _product(chosen, factor) + marked
        others = _product(others, factor)
    return (chosen[..., n] * share).sum(dim=1) * factorial[n]


def _product(series: Float[Tensor, "problem case x"], factor: Float[Tensor, "problem case x"]) -> Tensor:
    """Of polynomials in x, as far as the highest power that is kept."""
    result = series * factor[..., :1]
    for i in range(1, series.shape[-1]):
        result[..., i:] += series[..., :-i] * factor[..., i : i + 1]
    return result


def _counts_and_nodes(n: int) -> tuple[Int[Tensor, " case"], Float[Tensor, " case"], Float[Tensor, " case"]]:
    """Every count c that the commonest of n can have, with as many nodes and weights on [0, 1] as ties need there."""
    cases: list[tuple[int, float, float]] = []
    for c in range(1, n + 1):
        ties = n // c - 1  # the polynomial's degree in u
        nodes, weights = np.polynomial.legendre.leggauss(ties // 2 + 1)
        cases += [(c, (x + 1) / 2, w / 2) for x, w in zip(nodes.tolist(), weights.tolist(), strict=True)]
    count, node, share = zip(*cases, strict=True)
    return torch.tensor(count), torch.tensor(node, dtype=torch.float64), torch.tensor(share, dtype=torch.float64)
