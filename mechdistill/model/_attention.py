"""Causal attention whose scores, pattern and per-head results can be heard and edited.

    q, k, v = x W_Q + b_Q, x W_K + b_K, x W_V + b_V     [batch, pos, head, d_head]
    pattern = softmax(q·k / sqrt(d_head)) over s <= q   [batch, head, q, s]
    out     = Σ_heads (pattern v) W_O + b_O             [batch, pos, d_model]

With grouped key-value heads, query head h reads key-value head h // (n_heads / n_kv_heads). Rotary positions turn q
and k behind hook_q and hook_k. The fused kernel runs unless somebody listens to scores or pattern, or a head is
clamped: then hook_pattern sees the pattern that acts, and hook_attn_scores what the head would have made it of.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mechdistill.config import ModelConfig
from mechdistill.model._cache import LayerCache
from mechdistill.model._clamp import Clamped, held
from mechdistill.model._hooked import HookPoint
from mechdistill.model._rotary import Rotary


class Attention(nn.Module):
    """Causal multi-head attention with a fused QKV projection."""

    future: Tensor  # [query, source], true where the source lies ahead

    def __init__(self, config: ModelConfig, n_ctx: int):
        super().__init__()
        self.n_heads, self.d_head, self.d_model = config.n_heads, config.head_width, config.d_model
        self.n_kv_heads = config.kv_heads
        self.parts = (self.n_heads, self.n_kv_heads, self.n_kv_heads)  # heads of q, k and v, stacked in W_QKV
        self.W_QKV = nn.Parameter(torch.empty(sum(self.parts) * self.d_head, self.d_model))
        self.W_O = nn.Parameter(torch.empty(self.n_heads, self.d_head, self.d_model))
        self.b_QKV = nn.Parameter(torch.zeros(len(self.W_QKV))) if config.biases else None
        self.b_O = nn.Parameter(torch.zeros(self.d_model)) if config.biases else None
        self.hook_q = HookPoint()  # [batch, pos, head, d_head]
        self.hook_k, self.hook_v = HookPoint(), HookPoint()  # [batch, pos, kv_head, d_head]
        self.rotary: Rotary | None = None
        if config.positions == "rotary":
            self.rotary = Rotary(self.d_head, n_ctx)
            self.hook_rot_q, self.hook_rot_k = HookPoint(), HookPoint()  # q and k, rotated
        self.hook_attn_scores = HookPoint()  # [batch, head, query, source], -inf where source > query
        self.hook_pattern = HookPoint()  # [batch, head, query, source]
        self.hook_z = HookPoint()  # [batch, pos, head, d_head]
        self.hook_result = HookPoint()  # [batch, pos, head, d_model] without b_O, only while somebody listens
        mask = torch.ones(n_ctx, n_ctx, dtype=torch.bool).triu(1)
        self.register_buffer("future", mask, persistent=False)

    def _project(self, part: int) -> Float[Tensor, "head d_model d_head"]:
        rows = self.W_QKV.view(-1, self.d_head, self.d_model).split(self.parts)[part]
        return rows.transpose(1, 2)

    def _bias(self, part: int) -> Float[Tensor, "head d_head"] | None:
        return None if self.b_QKV is None else self.b_QKV.view(-1, self.d_head).split(self.parts)[part]

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        """Query projection of each head."""
        return self._project(0)

    @property
    def W_K(self) -> Float[Tensor, "kv_head d_model d_head"]:
        """Key projection of each key-value head."""
        return self._project(1)

    @property
    def W_V(self) -> Float[Tensor, "kv_head d_model d_head"]:
        """Value projection of each key-value head."""
        return self._project(2)

    @property
    def b_Q(self) -> Float[Tensor, "head d_head"] | None:
        """Query bias of each head; None without biases."""
        return self._bias(0)

    @property
    def b_K(self) -> Float[Tensor, "kv_head d_head"] | None:
        """Key bias of each key-value head; None without biases."""
        return self._bias(1)

    @property
    def b_V(self) -> Float[Tensor, "kv_head d_head"] | None:
        """Value bias of each key-value head; None without biases."""
        return self._bias(2)

    def qkv(self, x: Float[Tensor, "batch pos d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [batch, pos, head, d_head], keys and values [batch, pos, kv_head, d_head] of one shared input."""
        projected = F.linear(x, self.W_QKV, self.b_QKV).view(*x.shape[:2], -1, self.d_head)
        q, k, v = projected.split(self.parts, dim=2)
        return q, k, v

    def split_qkv(
        self,
        q_input: Float[Tensor, "batch pos head d_model"],
        k_input: Float[Tensor, "batch pos kv_head d_model"],
        v_input: Float[Tensor, "batch pos kv_head d_model"],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same with an input of its own for every head's queries, keys and values."""
        outputs: list[Tensor] = []
        for part, x in enumerate((q_input, k_input, v_input)):
            projected, bias = torch.einsum("bphm,hmd->bphd", x, self._project(part)), self._bias(part)
            outputs.append(projected if bias is None else projected + bias)
        return outputs[0], outputs[1], outputs[2]

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, past: LayerCache | None, clamped: Clamped
    ) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        start = 0 if past is None else past.length
        if self.rotary is not None:
            q, k = self.hook_rot_q(self.rotary(q, start)), self.hook_rot_k(self.rotary(k, start))
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if past is not None:
            k, v = past.extend(k, v)
        listened = self.hook_attn_scores.has_hooks() or self.hook_pattern.has_hooks()
        z = self._explicit(q, k, v, clamped) if listened or clamped else self._fused(q, k, v)
        z = self.hook_z(z.transpose(1, 2))
        if self.hook_result.has_hooks():
            out = self.hook_result(torch.einsum("bphd,hdm->bphm", z, self.W_O)).sum(dim=2)
        else:
            out = z.flatten(2) @ self.W_O.flatten(0, 1)
        return out if self.b_O is None else out + self.b_O

    def _fused(
        self,
        q: Float[Tensor, "batch head new d_head"],
        k: Float[Tensor, "batch kv_head all d_head"],
        v: Float[Tensor, "batch kv_head all d_head"],
    ) -> Float[Tensor, "batch head new d_head"]:
        grouped = self.n_kv_heads < self.n_heads
        if q.shape[2] == k.shape[2]:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        # is_causal would align the first query with the first source; a single query sees everything
        seen = None if q.shape[2] == 1 else ~self._future(q, k)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=grouped)

    def _explicit(
        self,
        q: Float[Tensor, "batch head new d_head"],
        k: Float[Tensor, "batch kv_head all d_head"],
        v: Float[Tensor, "batch kv_head all d_head"],
        clamped: Clamped,
    ) -> Float[Tensor, "batch head new d_head"]:
        k, v = (x.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1) for x in (k, v))
        scores = (q / math.sqrt(self.d_head)) @ k.transpose(-2, -1)
        scores = self.hook_attn_scores(scores.masked_fill(self._future(q, k), -torch.inf))
        return self.hook_pattern(held(scores.softmax(dim=-1), clamped)) @ v

    def _future(self, q: Tensor, k: Tensor) -> Tensor:
        """The mask [new, all] of the last queries among all sources."""
        length = k.shape[2]
        return self.future[length - q.shape[2] : length, :length]
