"""One view of a hooked model for everything that looks at heads: ours, or any TransformerLens bridge.

Both answer to TransformerLens's names (`cfg`, `W_Q`, `run_with_cache`, `blocks.0.attn.hook_pattern`), so the view only
evens out what differs: devices, grouped key-value heads, and running the same sequences once however many scores ask.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram

_PATTERN_BYTES = 2**28

Patterns = list[Float[Tensor, "batch head query source"]]  # of each layer


class Outputs(NamedTuple):
    """What heads write and what has been written, layer by layer, on the CPU."""

    z: list[Float[Tensor, "batch pos head d_head"]]
    """Before W_O."""
    resid_post: list[Float[Tensor, "batch pos d_model"]]
    """The residual stream after each layer."""


class Norm(NamedTuple):
    """A norm of the model: x -> (x - mean x if centred) / scale * weight + bias. Without a norm: weight 1, no scale."""

    weight: Float[Tensor, " d_model"]
    bias: Float[Tensor, " d_model"]
    centred: bool
    eps: float | None
    """None: nothing is divided."""

    def read(self, matrix: Float[Tensor, "*heads d_model n"]) -> Float[Tensor, "*heads d_model n"]:
        """What reads norm(x), as what reads x, up to x's scale and a constant: weight and centring folded in."""
        folded = self.weight[:, None] * matrix
        return folded - folded.mean(dim=-2, keepdim=True) if self.centred else folded

    def write(self, matrix: Float[Tensor, "*heads n d_model"]) -> Float[Tensor, "*heads n d_model"]:
        """What writes into the residual stream, less what no centring norm can read."""
        return matrix - matrix.mean(dim=-1, keepdim=True) if self.centred else matrix

    def scale(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch 1"]:
        """What x is divided by."""
        if self.eps is None:
            return torch.ones_like(x[..., :1])
        return (self.write(x).pow(2).mean(dim=-1, keepdim=True) + self.eps).sqrt()

    def __call__(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """The norm of x."""
        return self.write(x) / self.scale(x) * self.weight + self.bias


class HeadView:
    """The heads of a model. Layers and heads count from 0; weights are on the CPU, float32 or the model's float64."""

    def __init__(self, model: Any):
        """Raises `MechdistillError` for a model without heads."""
        if isinstance(model, Bigram) or not hasattr(model, "cfg"):
            raise MechdistillError("model.kind=bigram: has no attention heads to look at; use a transformer run")
        self.model = model
        self.n_layers, self.n_heads = int(model.cfg.n_layers), int(model.cfg.n_heads)
        self.n_ctx, self.vocab = int(model.cfg.n_ctx), int(model.cfg.d_vocab)
        self.device = next(model.parameters()).device
        self._seen: dict[int, tuple[Tensor, Patterns]] = {}
        self._heard: dict[int, tuple[Tensor, Outputs]] = {}

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.cfg.d_model)

    @property
    def rotary(self) -> bool:
        """Whether positions turn queries and keys, so that W_Q W_Kᵀ alone does not say what matches."""
        return self.model.cfg.positional_embedding_type == "rotary"

    @property
    def start_token(self) -> int:
        """What the model's tokenizer begins with, or token 0 where it names none that the model has."""
        tokenizer = getattr(self.model, "tokenizer", None)
        start = getattr(tokenizer, "bos_token_id", None)
        return 0 if start is None or not 0 <= int(start) < self.vocab else int(start)

    def patterns(self, tokens: Int[Tensor, "batch pos"]) -> Patterns:
        """The attention patterns of each layer on the CPU; the same tensor of tokens is run once."""
        if id(tokens) not in self._seen:
            self._seen[id(tokens)] = tokens, self._run(tokens)  # kept, so that its id is nobody else's
        return self._seen[id(tokens)][1]

    @torch.no_grad()
    def outputs(self, tokens: Int[Tensor, "batch pos"]) -> Outputs:
        """What every head and every layer gives on them; likewise."""
        if id(tokens) not in self._heard:
            hooks = ("attn.hook_z", "hook_resid_post")
            names = [[f"blocks.{layer}.{hook}" for layer in range(self.n_layers)] for hook in hooks]
            _, cache = self.model.run_with_cache(tokens.to(self.device), names_filter=[*names[0], *names[1]])
            z, resid = ([_plain(cache[name]) for name in part] for part in names)
            z = [one.reshape(*tokens.shape, self.n_heads, -1) for one in z]
            self._heard[id(tokens)] = tokens, Outputs(z, resid)
        return self._heard[id(tokens)][1]

    def attention_from(
        self, tokens: Int[Tensor, "batch pos"], query: Int[Tensor, " batch"]
    ) -> list[Float[Tensor, "batch head source"]]:
        """Of each layer, the attention that one query of each sequence pays; whole patterns are kept of few at a time.

        The same sequences may be asked for often: nothing is remembered.
        """
        fit = max(1, _PATTERN_BYTES // (4 * self.n_layers * self.n_heads * tokens.shape[1] ** 2))
        rows: list[list[Tensor]] = []
        for part, at in zip(tokens.split(fit), query.split(fit), strict=True):
            rows.append([pattern[torch.arange(len(part)), :, at] for pattern in self._run(part)])
        return [torch.cat(layer) for layer in zip(*rows, strict=True)]

    @torch.no_grad()
    def _run(self, tokens: Tensor) -> Patterns:
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(self.n_layers)]
        _, cache = self.model.run_with_cache(tokens.to(self.device), names_filter=names)
        return [cache[name].float().cpu() for name in names]

    @property
    def W_Q(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Query projections."""
        return self._heads("W_Q")

    @property
    def W_K(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Key projections, one a query head: grouped ones are repeated."""
        return self._heads("W_K")

    @property
    def W_V(self) -> Float[Tensor, "layer head d_model d_head"]:
        """Value projections, likewise."""
        return self._heads("W_V")

    @property
    def W_O(self) -> Float[Tensor, "layer head d_head d_model"]:
        """Output projections."""
        return self._heads("W_O")

    @property
    def W_E(self) -> Float[Tensor, "vocab d_model"]:
        """Embedding."""
        return _plain(self.model.W_E)

    @property
    def W_pos(self) -> Float[Tensor, "pos d_model"] | None:
        """Embedding of positions; None where they are not learned."""
        if self.model.cfg.positional_embedding_type != "standard":
            return None
        return _plain(self.model.W_pos)

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """Unembedding."""
        return _plain(self.model.W_U)

    @property
    def b_U(self) -> Float[Tensor, " vocab"]:
        """What the unembedding adds: zeros where it has no bias."""
        bias = getattr(self.model, "b_U", None)
        return torch.zeros(self.vocab) if bias is None else _plain(bias)

    def biases(self, name: str) -> Float[Tensor, "layer head d_head"]:
        """b_Q, b_K or b_V, one a query head; zeros where the model has none."""
        rows = [getattr(block.attn, name, None) for block in self.model.blocks]
        d_head = self.W_Q.shape[-1]
        full = [torch.zeros(1, d_head) if row is None else _plain(row).reshape(-1, d_head) for row in rows]
        return torch.stack([row.repeat_interleave(self.n_heads // len(row), dim=0) for row in full])

    def norm(self, layer: int | None) -> Norm:
        """What a layer's heads read through; None: what the unembedding reads through."""
        module = self.model.ln_final if layer is None else self.model.blocks[layer].ln1
        kind, weight = self.model.cfg.normalization_type, getattr(module, "weight", None)
        bias = getattr(module, "bias", None)
        return Norm(
            torch.ones(self.d_model) if weight is None else _plain(weight),
            torch.zeros(self.d_model) if bias is None else _plain(bias),
            str(kind).startswith("LN"),
            None if kind is None else float(self.model.cfg.eps),
        )

    def _heads(self, name: str) -> Tensor:
        weights = _plain(getattr(self.model, name))
        if weights.shape[1] == self.n_heads:
            return weights
        return weights.repeat_interleave(self.n_heads // weights.shape[1], dim=1)


def _plain(tensor: Tensor) -> Tensor:
    """On the CPU, in float32 unless it is more exact."""
    tensor = tensor.detach().cpu()
    return tensor if tensor.dtype == torch.float64 else tensor.float()
