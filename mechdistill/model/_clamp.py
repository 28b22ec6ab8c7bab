"""The patterns that clamped heads are held at, and putting them in place of a head's own.

Patterns are functions of the tokens alone, so that a model can make them wherever it is run. Each query pays all of
its attention to one source; where a pattern names none, `previous-token` and `two-back` look at the query itself, and
the two that look for an earlier copy at the first position.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import DUPLICATE, PREVIOUS, TWO_BACK, ClampConfig

Clamped = Mapping[int, Tensor]
"""Of a layer: patterns [batch, new, all] by head."""


def ideal_pattern(pattern: str, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch query source"]:
    """One-hot attention of each query, causal: A[q, s(q)] = 1.

    previous-token: s(q) = q - 1, and s(0) = 0. two-back: s(q) = q - 2, and s(q) = q below 2. With c(q) the latest
    position before q that holds the token of q: induction: s(q) = c(q) + 1; duplicate-token: s(q) = c(q); both 0
    where the token is new.
    """
    return F.one_hot(_sources(pattern, tokens), tokens.shape[1]).float()


def _sources(pattern: str, tokens: Int[Tensor, "batch pos"]) -> Int[Tensor, "batch query"]:
    q = torch.arange(tokens.shape[1], device=tokens.device)
    if pattern in (PREVIOUS, TWO_BACK):
        back = 1 if pattern == PREVIOUS else 2
        return torch.where(q >= back, q - back, q).expand(tokens.shape)
    copies = (tokens[:, :, None] == tokens[:, None, :]) & (q[None, :] < q[:, None])
    latest = (copies * (q + 1)).amax(dim=-1)  # c(q) + 1; 0 where there is none
    return latest if pattern != DUPLICATE else (latest - 1).clamp(min=0)


def clamped_patterns(clamps: Sequence[ClampConfig], tokens: Int[Tensor, "batch all"], start: int) -> dict[int, Clamped]:
    """The patterns of all clamped heads by layer, for queries from `start` on among all tokens."""
    layers: dict[int, dict[int, Tensor]] = {}
    for clamp in clamps:
        layer, head = clamp.place
        layers.setdefault(layer, {})[head] = ideal_pattern(clamp.pattern, tokens)[:, start:]
    return dict(layers)


def held(
    pattern: Float[Tensor, "batch head query source"], clamped: Clamped
) -> Float[Tensor, "batch head query source"]:
    """A layer's patterns with those of its clamped heads replaced; no gradient reaches what was there."""
    if not clamped:
        return pattern
    replaced = pattern.clone()
    for head, ideal in clamped.items():
        replaced[:, head] = ideal.to(pattern.dtype)
    return replaced
