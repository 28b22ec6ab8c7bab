"""The null model: a table of logits, one row a token. Whatever it shows is not about circuits."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mechdistill.model._hooked import HookedModel, HookPoint


class Bigram(HookedModel):
    """tokens [batch, pos] -> logits [batch, pos, vocab] = rows of one table; no context, no position."""

    def __init__(self, *, d_vocab: int, n_ctx: int):
        super().__init__()
        self.d_vocab, self.n_ctx = d_vocab, n_ctx
        self.table = nn.Parameter(torch.zeros(d_vocab, d_vocab))
        self.hook_embed = HookPoint()  # [batch, pos, vocab]
        self.setup()

    def forward(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        return self.hook_embed(F.embedding(tokens, self.table))

    def initialise(self, generator: torch.Generator) -> None:
        """Start from the uniform law; there is nothing to draw."""
        del generator
        nn.init.zeros_(self.table)
