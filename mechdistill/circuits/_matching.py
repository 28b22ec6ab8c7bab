"""Which head of one network does what which head of another does, and how well heads would match that do not.

Heads are matched by what they attend to in the same sequences. An assignment picks the best there is, so it finds some
match between any two networks; what it is held against is therefore assigned anew each time: heads of networks that
have learned nothing, and the same heads where the sequences are not the same.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mechdistill.circuits._view import HeadView
from mechdistill.errors import MechdistillError
from mechdistill.tables import MATCHES, frame
from mechdistill.tables.metrics import PATTERN_SIMILARITY

SHUFFLES = 999
_TIE = 1e-9  # sums of the same numbers in another order are as large
_ROUNDING = 1e-6  # what it leaves of a uniform head

Similarity = NDArray[np.float64]  # [head, other's head], counted through all layers


class Shapes(NamedTuple):
    """What the heads of a model attend to in some sequences."""

    heads: Float[Tensor, "sequence head feature"]
    """Pattern less uniform attention, of length 1 over all sequences; 0 for a head that is uniform everywhere."""
    per_layer: int

    def similarity(self, other: "Shapes") -> Similarity:
        """Σ D·D' / sqrt(Σ D² · Σ D'²) of every pair of heads; see `match_heads`."""
        return torch.einsum("sif,sjf->ij", self.heads, other.heads).double().numpy()


def match_heads(
    model: Any,
    other: Any,
    tokens: Int[Tensor, "sequence pos"],
    generator: torch.Generator,
    untrained: Iterable[Any] = (),
) -> pd.DataFrame:
    """Every pair of heads of two models by similarity, and the best one-to-one assignment: the `match` table.

    The models are ours or TransformerLens bridges, of any depth and width. With D = A - U, a head's pattern less
    uniform causal attention (U[q, s] = 1/(q+1)), over all sequences, queries and sources s <= q,

        similarity = Σ D·D' / sqrt(Σ D² · Σ D'²)

    in [-1, 1]: 1 the same pattern, 0 by chance, and 0 for a head that is uniform everywhere, which nothing tells from
    another such. The assignment has the largest sum of similarities (Hungarian; Kuhn 1955); of a network with more
    heads the rest stay unmatched.

    Beside each matched head:
    - `untrained`, its mean similarity to what it is assigned in each of the `untrained` networks, and `p`, the share of
      those (and the truth) of which any matched head comes as high: small if it is no chance alignment.
    - `shuffled`, the mean of its similarity to what it is assigned once the other network's sequences are shuffled,
      999 times, and `p_shuffled`, the share of shuffles (and the truth) that come as high, times the number of matched
      heads: small if it is more than position. A head of position alone, like one of the previous token, has 1.
    - `relabelled`, its mean similarity over all labellings of the other's heads.
    One row without heads has the same of the mean over matched heads. What no `untrained` network is given for is null.

    Source: matching of units as in Li et al. 2016, Convergent learning. Raises `MechdistillError` for a model without
    heads and for fewer than two sequences.
    """
    ours, theirs = shapes(model, tokens), shapes(other, tokens)
    return matches(ours, theirs, [ours.similarity(shapes(each, tokens)) for each in untrained], generator)


@torch.no_grad()
def shapes(model: Any, tokens: Int[Tensor, "sequence pos"]) -> Shapes:
    """What its heads attend to in these sequences, two or more."""
    if len(tokens) < 2:
        raise MechdistillError(f"tokens of {len(tokens)} sequences: shuffling needs two or more; give more")
    view = HeadView(model)
    whole = torch.cat(view.patterns(tokens), dim=1)
    n = whole.shape[-1]
    below = torch.ones(n, n, dtype=torch.bool).tril()
    far = (whole - below / torch.arange(1, n + 1)[:, None])[..., below]
    far[far.abs() < _ROUNDING] = 0.0
    size = far.double().pow(2).sum(dim=(0, 2), keepdim=True).sqrt()
    return Shapes((far / torch.where(size > 0, size, 1.0)).float(), view.n_heads)


def matches(ours: Shapes, theirs: Shapes, untrained: list[Similarity], generator: torch.Generator) -> pd.DataFrame:
    """The `match` table of what two models attend to; `untrained` is ours with each of some untrained networks."""
    gram = torch.einsum("sif,tjf->stij", ours.heads, theirs.heads).double().numpy()
    count = np.arange(len(gram))
    similarity = gram[count, count].sum(axis=0)
    mine, other = linear_sum_assignment(similarity, maximize=True)
    found = similarity[mine, other]
    orders = (torch.randperm(len(gram), generator=generator).numpy() for _ in range(SHUFFLES))
    shuffled = np.stack([_reassigned(gram[count, order].sum(axis=0), mine) for order in orders])
    naive = np.stack([_reassigned(each, mine) for each in untrained]) if untrained else None

    def about(value: Any, at: Any, times: int) -> dict[str, Any]:
        """What stands beside the similarity of one match, or of the mean of all."""
        beside = {"shuffled": at(shuffled).mean(), "p_shuffled": min(1.0, times * _share(at(shuffled), value))}
        if naive is not None:
            # any head may come as high by chance, so the best of each network is what one head has to beat
            beside |= {
                "untrained": at(naive).mean(),
                "p": _share(at(naive) if times == 1 else naive.max(axis=1), value),
            }
        return {name: float(number) for name, number in beside.items()}

    mean = about(found.mean(), lambda null: null.mean(axis=1), 1) | {"relabelled": float(similarity.mean())}
    rows: list[dict[str, Any]] = [PATTERN_SIMILARITY.row(float(found.mean()), matched=True, **mean)]
    place = {pair: k for k, pair in enumerate(zip(mine.tolist(), other.tolist(), strict=True))}
    for i, j in np.ndindex(*similarity.shape):
        where = dict(zip(("layer", "head"), divmod(i, ours.per_layer), strict=True))
        where |= dict(zip(("other_layer", "other_head"), divmod(j, theirs.per_layer), strict=True))
        if (k := place.get((i, j))) is not None:
            beside = about(found[k], lambda null, k=k: null[:, k], len(found))
            where |= beside | {"relabelled": float(similarity[i].mean())}
        rows.append(PATTERN_SIMILARITY.row(float(similarity[i, j]), matched=k is not None, **where))
    return frame(MATCHES, rows)


def _reassigned(similarity: Similarity, heads: NDArray[np.intp]) -> Float[NDArray[np.float64], " head"]:
    """Of these heads, the similarity to what a new assignment gives them, or to their best where it gives nothing."""
    mine, other = linear_sum_assignment(similarity, maximize=True)
    values = similarity.max(axis=1)
    values[mine] = similarity[mine, other]
    return values[heads]


def _share(null: NDArray[np.float64], found: float) -> float:
    """The share that comes as high, the truth counted as one of them."""
    return float(1 + (null >= found - _TIE).sum()) / (1 + len(null))
