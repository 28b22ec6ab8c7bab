"""A decoder-only transformer whose every intermediate has the name that TransformerLens users type.

Residual stream x, which starts as the embedding of the token plus, where positions are learned, that of its position.
Each block adds attention and, unless attention-only, an MLP, both reading norm(x); the logits are norm(x) W_U:

    x += attention(norm(x)),   x += MLP(norm(x))

Hook points cost nothing while nobody is attached; per-head results and split Q/K/V inputs are computed only then.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformer_lens.utilities.typed_module_list import TypedModuleList

from mechdistill.config import ModelConfig
from mechdistill.errors import MechdistillError
from mechdistill.model._attention import Attention
from mechdistill.model._bridge_config import bridge_config
from mechdistill.model._cache import KVCache, LayerCache
from mechdistill.model._clamp import Clamped, clamped_patterns
from mechdistill.model._hooked import HookPoint
from mechdistill.model._language_model import LanguageModel, returned
from mechdistill.model._mlp import MLP
from mechdistill.model._norm import norm

_FREE: Clamped = {}  # no head of the layer is clamped


class Block(nn.Module):
    """One layer: attention, then the MLP if there is one."""

    def __init__(self, config: ModelConfig, n_ctx: int):
        super().__init__()
        self.ln1 = norm(config)
        self.attn = Attention(config, n_ctx)
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = HookPoint(), HookPoint(), HookPoint()
        self.hook_attn_out = HookPoint()
        # what each head's queries, keys and values read, before the norm: [batch, pos, head or kv_head, d_model]
        self.hook_q_input, self.hook_k_input, self.hook_v_input = HookPoint(), HookPoint(), HookPoint()
        self.mlp: MLP | None = None
        if not config.attn_only:
            self.ln2, self.mlp, self.hook_mlp_out = norm(config), MLP(config), HookPoint()
        else:
            del self.hook_resid_mid

    def forward(
        self, x: Float[Tensor, "batch pos d_model"], past: LayerCache | None = None, clamped: Clamped = _FREE
    ) -> Float[Tensor, "batch pos d_model"]:
        x = self.hook_resid_pre(x)
        input_hooks = (self.hook_q_input, self.hook_k_input, self.hook_v_input)
        if any(hook.has_hooks() for hook in input_hooks):
            heads = zip(input_hooks, self.attn.parts, strict=True)
            inputs = [hook(x[:, :, None].expand(-1, -1, n_heads, -1)) for hook, n_heads in heads]
            q, k, v = self.attn.split_qkv(*self.ln1.split(x, inputs))
        else:
            q, k, v = self.attn.qkv(self.ln1(x))
        x = x + self.hook_attn_out(self.attn(q, k, v, past, clamped))
        if self.mlp is not None:
            x = self.hook_resid_mid(x)
            x = x + self.hook_mlp_out(self.mlp(self.ln2(x)))
        return self.hook_resid_post(x)


class Transformer(LanguageModel):
    """The student. tokens [batch, pos] -> logits [batch, pos, vocab]; pos is at most n_ctx."""

    def __init__(self, config: ModelConfig, *, d_vocab: int, n_ctx: int):
        super().__init__()
        self.config, self.d_vocab, self.n_ctx = config, d_vocab, n_ctx
        self.W_E = nn.Parameter(torch.empty(d_vocab, config.d_model))
        self.hook_embed = HookPoint()
        self.W_pos: nn.Parameter | None = None
        if config.positions == "learned":
            self.W_pos = nn.Parameter(torch.empty(n_ctx, config.d_model))
            self.hook_pos_embed = HookPoint()
        self.blocks = TypedModuleList([Block(config, n_ctx) for _ in range(config.n_layers)])
        self.ln_final = norm(config)
        if not config.tied:
            self.register_parameter("W_U", nn.Parameter(torch.empty(config.d_model, d_vocab)))
        self.setup()

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """Unembedding; where tied it is W_E transposed, and W_E is the only parameter and the only one stored."""
        return self.W_E.T if self.config.tied else cast(Tensor, super().__getattr__("W_U"))

    def forward(self, tokens: Any, return_type: str | None = "logits", *, cache: KVCache | None = None) -> Any:
        """Logits of the next token at each position, [batch, pos, vocab], or what `return_type` asks for: 'loss' (the
        mean of the next token within `tokens`, nats), 'both', or None.

        With a cache, the tokens follow those it has read, and it reads these too: the logits are those of the new
        positions only, and so is what hooks see, save that scores and pattern are [batch, head, new, all positions].
        """
        tokens = self.batch(tokens)
        if cache is not None:
            cache.check(tokens)
        start = 0 if cache is None else cache.length
        stop = start + tokens.shape[1]
        if stop > self.n_ctx:
            raise MechdistillError(f"tokens: {stop} positions exceed n_ctx={self.n_ctx}; cut them")
        x = self.hook_embed(F.embedding(tokens, self.W_E))
        if self.W_pos is not None:
            x = x + self.hook_pos_embed(self.W_pos[start:stop].expand(len(tokens), -1, -1))
        clamped = clamped_patterns(self.config.clamps, tokens if cache is None else cache.read(tokens), start)
        for index, block in enumerate(self.blocks):
            x = block(x, None if cache is None else cache.layer(index), clamped.get(index, _FREE))
        if cache is not None:
            cache.length = stop
        return returned(self.ln_final(x) @ self.W_U, tokens, return_type)

    @property
    def cfg(self) -> Any:
        """The shape of the model as TransformerLens's config, for code that reads model.cfg."""
        return bridge_config(self.config, d_vocab=self.d_vocab, n_ctx=self.n_ctx)

    @property
    def W_Q(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Query projections."""
        return torch.stack([block.attn.W_Q for block in self.blocks])

    @property
    def W_K(self) -> Float[Tensor, "layer kv_head d_model d_head"]:
        """Key projections."""
        return torch.stack([block.attn.W_K for block in self.blocks])

    @property
    def W_V(self) -> Float[Tensor, "layer kv_head d_model d_head"]:
        """Value projections."""
        return torch.stack([block.attn.W_V for block in self.blocks])

    @property
    def W_O(self) -> Float[Tensor, "layer head d_head d_model"]:
        """Output projections."""
        return torch.stack([block.attn.W_O for block in self.blocks])

    def tokens_to_residual_directions(self, tokens: Any) -> Float[Tensor, "*tokens d_model"]:
        """What in the final residual stream, once normalised, raises each token's logit: columns of W_U."""
        return self.W_U.T[tokens]

    def accumulated_bias(
        self, layer: int, mlp_input: bool = False, include_mlp_biases: bool = True
    ) -> Float[Tensor, " d_model"]:
        """The biases that all blocks before `layer` add to the residual stream, and its attention's for `mlp_input`."""
        total = self.W_E.new_zeros(self.config.d_model)
        for i, block in enumerate(self.blocks[: layer + mlp_input]):
            b_out = None if block.mlp is None or not include_mlp_biases or i == layer else block.mlp.b_out
            for bias in (block.attn.b_O, b_out):
                total = total if bias is None else total + bias
        return total

    def kv_cache(self, batch: int, capacity: int | None = None) -> KVCache:
        """An empty cache for `batch` sequences of at most `capacity` positions (n_ctx unless given)."""
        config = self.config
        shape = (config.n_layers, batch, config.kv_heads, capacity or self.n_ctx, config.head_width)
        return KVCache(shape, self.W_E)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw all matrices from `generator` as GPT-2 does; norms start as the identity and biases at zero.

        Normal with sd 0.02, and 0.02/sqrt(2·n_layers) for the two that write into the residual stream, so that
        depth does not change the size of the stream.
        """
        for name, parameter in self.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf.startswith("W_"):
                shrink = math.sqrt(2 * self.config.n_layers) if leaf in ("W_O", "W_out") else 1.0
                parameter.normal_(0, 0.02 / shrink, generator=generator)
