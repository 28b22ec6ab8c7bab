"""Keys and values of the positions already read, so that sampling does not read them again."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError


class LayerCache(NamedTuple):
    """One layer's buffers [batch, kv_head, capacity, d_head], of which the first `length` positions are filled."""

    k: Tensor
    v: Tensor
    length: int

    def extend(
        self, k: Float[Tensor, "batch kv_head new d_head"], v: Float[Tensor, "batch kv_head new d_head"]
    ) -> tuple[Float[Tensor, "batch kv_head all d_head"], Float[Tensor, "batch kv_head all d_head"]]:
        """Keep the new keys and values and return them behind all earlier ones.

        Raises `MechdistillError` if gradients are recorded, which buffers written in place would corrupt.
        """
        if k.requires_grad or v.requires_grad:
            raise MechdistillError("cache: keeps no gradients; use it inside torch.no_grad()")
        stop = self.length + k.shape[2]
        self.k[:, :, self.length : stop] = k
        self.v[:, :, self.length : stop] = v
        return self.k[:, :, :stop], self.v[:, :, :stop]


class KVCache:
    """What `Transformer.forward(tokens, cache)` reads and extends; make one with `Transformer.kv_cache`.

    k and v are [layer, batch, kv_head, capacity, d_head], keys rotated where positions are; `length` positions are
    filled. A forward pass that raises leaves `length` as it was, so it can be repeated.
    """

    def __init__(self, shape: tuple[int, int, int, int, int], like: Tensor):
        self.k = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.v = torch.zeros_like(self.k)
        self.tokens = torch.zeros(shape[1], shape[3], dtype=torch.long, device=like.device)  # what clamps look at
        self.length = 0

    def layer(self, index: int) -> LayerCache:
        """The buffers of one layer."""
        return LayerCache(self.k[index], self.v[index], self.length)

    def read(self, tokens: Int[Tensor, "batch new"]) -> Int[Tensor, "batch all"]:
        """Keep the new tokens and return them behind all earlier ones."""
        stop = self.length + tokens.shape[1]
        self.tokens[:, self.length : stop] = tokens
        return self.tokens[:, :stop]

    def check(self, tokens: Tensor) -> None:
        """Raise `MechdistillError` unless the tokens are of as many sequences and still fit."""
        batch, capacity = self.k.shape[1], self.k.shape[3]
        if len(tokens) != batch:
            raise MechdistillError(f"cache: holds {batch} sequences, not {len(tokens)}; make one for this batch")
        if self.length + tokens.shape[1] > capacity:
            raise MechdistillError(
                f"cache: {self.length} positions and {tokens.shape[1]} more exceed its capacity of {capacity}; "
                "make a larger one"
            )
