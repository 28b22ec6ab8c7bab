"""Rotary positions: queries and keys turn by an angle that grows with their position (Su et al. 2021).

The convention is that of TransformerLens's native models, so that exports are exact: neighbouring dimensions
(2i, 2i+1) form a pair, and at position p it turns by p·base^(-2i/d_head).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

BASE = 10_000


class Rotary(nn.Module):
    """Rotates the pairs of d_head, which must be even, by tables for the positions below n_ctx."""

    cos: Tensor  # [n_ctx, 1, d_head]; float32 until the model is converted, as in TransformerLens
    sin: Tensor

    def __init__(self, d_head: int, n_ctx: int):
        super().__init__()
        frequency = 1.0 / (BASE ** (torch.arange(0, d_head, 2).float() / d_head))
        angle = torch.outer(torch.arange(n_ctx).float(), frequency)[:, None]
        self.register_buffer("cos", angle.cos().repeat_interleave(2, dim=-1), persistent=False)
        self.register_buffer("sin", angle.sin().repeat_interleave(2, dim=-1), persistent=False)

    def forward(self, x: Float[Tensor, "batch pos head d_head"], start: int) -> Float[Tensor, "batch pos head d_head"]:
        """x, whose first position is `start`, rotated: (a, b) -> (a cos - b sin, b cos + a sin) for each pair."""
        here = slice(start, start + x.shape[1])
        quarter_turn = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
        return x * self.cos[here] + quarter_turn * self.sin[here]
