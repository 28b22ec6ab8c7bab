"""A decoder-only transformer whose every intermediate has the name that TransformerLens users type.

Residual stream x. Each block adds attention and, unless attention-only, an MLP, both reading LN(x):

    q, k, v = LN(x) W_Q, LN(x) W_K, LN(x) W_V          [batch, pos, head, d_head]
    pattern = softmax(q·k / sqrt(d_head)) over s <= q   [batch, head, q, s]
    x      += Σ_heads (pattern v) W_O,   x += MLP(LN(x))

Hook points cost nothing while nobody is attached; per-head results and split Q/K/V inputs are computed only then.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformer_lens.utilities.typed_module_list import TypedModuleList

from mechdistill.config import ModelConfig
from mechdistill.model._hooked import HookedModel, HookPoint


class Attention(nn.Module):
    """Causal multi-head attention with a fused QKV projection."""

    future: Tensor  # [query, source], true where the source lies ahead

    def __init__(self, config: ModelConfig, n_ctx: int):
        super().__init__()
        self.n_heads, self.d_head, self.d_model = config.n_heads, config.head_width, config.d_model
        self.W_QKV = nn.Parameter(torch.empty(3 * self.n_heads * self.d_head, self.d_model))
        self.W_O = nn.Parameter(torch.empty(self.n_heads, self.d_head, self.d_model))
        self.hook_q, self.hook_k, self.hook_v = (
            HookPoint(),
            HookPoint(),
            HookPoint(),
        )  # [batch, pos, head, d_head]
        self.hook_attn_scores = HookPoint()  # [batch, head, query, source], -inf where source > query
        self.hook_pattern = HookPoint()  # [batch, head, query, source]
        self.hook_z = HookPoint()  # [batch, pos, head, d_head]
        self.hook_result = HookPoint()  # [batch, pos, head, d_model], only while somebody listens
        mask = torch.ones(n_ctx, n_ctx, dtype=torch.bool).triu(1)
        self.register_buffer("future", mask, persistent=False)

    def _project(self, part: int) -> Float[Tensor, "head d_model d_head"]:
        weight = self.W_QKV.view(3, self.n_heads, self.d_head, self.d_model)[part]
        return weight.transpose(1, 2)

    @property
    def W_Q(self) -> Float[Tensor, "head d_model d_head"]:
        """Query projection of each head."""
        return self._project(0)

    @property
    def W_K(self) -> Float[Tensor, "head d_model d_head"]:
        """Key projection of each head."""
        return self._project(1)

    @property
    def W_V(self) -> Float[Tensor, "head d_model d_head"]:
        """Value projection of each head."""
        return self._project(2)

    def qkv(self, x: Float[Tensor, "batch pos d_model"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [batch, pos, head, d_head] of one shared input."""
        q, k, v = F.linear(x, self.W_QKV).view(*x.shape[:2], 3, self.n_heads, self.d_head).unbind(2)
        return q, k, v

    def split_qkv(self, inputs: tuple[Float[Tensor, "batch pos head d_model"], ...]) -> tuple[Tensor, Tensor, Tensor]:
        """The same with an input of its own for every head's queries, keys and values."""
        q, k, v = (torch.einsum("bphm,hmd->bphd", x, self._project(part)) for part, x in enumerate(inputs))
        return q, k, v

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "batch pos d_model"]:
        q, k, v = self.hook_q(q), self.hook_k(k), self.hook_v(v)
        listened = self.hook_attn_scores.has_hooks() or self.hook_pattern.has_hooks()
        attend = self._explicit if listened else self._fused
        z = self.hook_z(attend(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2))
        if self.hook_result.has_hooks():
            result = self.hook_result(torch.einsum("bphd,hdm->bphm", z, self.W_O))
            return result.sum(dim=2)
        return z.flatten(2) @ self.W_O.flatten(0, 1)

    def _fused(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "batch head pos d_head"]:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def _explicit(self, q: Tensor, k: Tensor, v: Tensor) -> Float[Tensor, "batch head pos d_head"]:
        length = q.shape[2]
        scores = (q / math.sqrt(self.d_head)) @ k.transpose(-2, -1)
        scores = self.hook_attn_scores(scores.masked_fill(self.future[:length, :length], -torch.inf))
        return self.hook_pattern(scores.softmax(dim=-1)) @ v


class MLP(nn.Module):
    """act(x W_in) W_out."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(config.d_model, config.mlp_width))
        self.W_out = nn.Parameter(torch.empty(config.mlp_width, config.d_model))
        self.act = {"gelu": F.gelu, "relu": F.relu}[config.act]
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()  # [batch, pos, d_mlp]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        return self.hook_post(self.act(self.hook_pre(x @ self.W_in))) @ self.W_out


class Block(nn.Module):
    """One layer: attention, then the MLP if there is one."""

    def __init__(self, config: ModelConfig, n_ctx: int):
        super().__init__()
        self.n_heads = config.n_heads
        self.ln1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config, n_ctx)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out = HookPoint()
        # what each head's queries, keys and values read, before LN: [batch, pos, head, d_model]
        self.hook_q_input, self.hook_k_input, self.hook_v_input = HookPoint(), HookPoint(), HookPoint()
        self.mlp: MLP | None = None
        if not config.attn_only:
            self.ln2, self.mlp, self.hook_mlp_out = nn.LayerNorm(config.d_model), MLP(config), HookPoint()
        else:
            del self.hook_resid_mid

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        x = self.hook_resid_pre(x)
        input_hooks = (self.hook_q_input, self.hook_k_input, self.hook_v_input)
        if any(hook.has_hooks() for hook in input_hooks):
            per_head = x[:, :, None].expand(-1, -1, self.n_heads, -1)
            q, k, v = self.attn.split_qkv(tuple(self.ln1(hook(per_head)) for hook in input_hooks))
        else:
            q, k, v = self.attn.qkv(self.ln1(x))
        x = x + self.hook_attn_out(self.attn(q, k, v))
        if self.mlp is not None:
            x = self.hook_resid_mid(x)
            x = x + self.hook_mlp_out(self.mlp(self.ln2(x)))
        return self.hook_resid_post(x)


class Transformer(HookedModel):
    """The student. tokens [batch, pos] -> logits [batch, pos, vocab]; pos is at most n_ctx."""

    def __init__(self, config: ModelConfig, *, d_vocab: int, n_ctx: int):
        super().__init__()
        self.config, self.d_vocab, self.n_ctx = config, d_vocab, n_ctx
        self.W_E = nn.Parameter(torch.empty(d_vocab, config.d_model))
        self.W_pos = nn.Parameter(torch.empty(n_ctx, config.d_model))
        self.hook_embed, self.hook_pos_embed = HookPoint(), HookPoint()
        self.blocks = TypedModuleList([Block(config, n_ctx) for _ in range(config.n_layers)])
        self.ln_final = nn.LayerNorm(config.d_model)
        self.W_U = nn.Parameter(torch.empty(config.d_model, d_vocab))
        self.setup()

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        positions = self.W_pos[: tokens.shape[1]].expand(len(tokens), -1, -1)
        x = self.hook_embed(F.embedding(tokens, self.W_E)) + self.hook_pos_embed(positions)
        for block in self.blocks:
            x = block(x)
        return self.ln_final(x) @ self.W_U

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all matrices from `generator` as GPT-2 does; LayerNorms start as the identity.

        Normal with sd 0.02, and 0.02/sqrt(2·n_layers) for the two that write into the residual stream, so that
        depth does not change the size of the stream.
        """
        for name, parameter in self.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.startswith("W_"):
                shrink = math.sqrt(2 * self.config.n_layers) if leaf in ("W_O", "W_out") else 1.0
                parameter.normal_(0, 0.02 / shrink, generator=generator)
