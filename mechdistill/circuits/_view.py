"""One view of a hooked model for everything that looks at heads: ours, or any TransformerLens bridge.

Both answer to TransformerLens's names (`cfg`, `W_Q`, `run_with_cache`, `blocks.0.attn.hook_pattern`), so the view only
evens out what differs: devices, grouped key-value heads, and running the same sequences once however many scores ask.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram

_PATTERN_BYTES = 2**28

Patterns = list[Float[Tensor, "batch head query source"]]  # of each layer


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

    def patterns(self, tokens: Int[Tensor, "batch pos"]) -> Patterns:
        """The attention patterns of each layer on the CPU; the same tensor of tokens is run once."""
        if id(tokens) not in self._seen:
            self._seen[id(tokens)] = tokens, self._run(tokens)  # kept, so that its id is nobody else's
        return self._seen[id(tokens)][1]

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
        return self.model.W_E.detach().cpu()

    @property
    def W_U(self) -> Float[Tensor, "d_model vocab"]:
        """Unembedding."""
        return self.model.W_U.detach().cpu()

    def _heads(self, name: str) -> Tensor:
        weights = getattr(self.model, name).detach().cpu()
        return weights.repeat_interleave(self.n_heads // weights.shape[1], dim=1)
