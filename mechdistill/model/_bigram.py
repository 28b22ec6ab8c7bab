"""The null model: a table of logits, one row a token. Whatever it shows is not about circuits."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mechdistill.model._hooked import HookPoint
from mechdistill.model._language_model import LanguageModel, returned


class Bigram(LanguageModel):
    """tokens [batch, pos] -> logits [batch, pos, vocab] = rows of one table; no context, no position."""

    def __init__(self, *, d_vocab: int, n_ctx: int):
        super().__init__()
        self.d_vocab, self.n_ctx = d_vocab, n_ctx
        self.table = nn.Parameter(torch.zeros(d_vocab, d_vocab))
        self.hook_embed = HookPoint()  # [batch, pos, vocab]
        self.setup()

    def forward(self, tokens: Any, return_type: str | None = "logits") -> Any:
        """Logits [batch, pos, vocab] of tokens [batch, pos] or [pos], or what `return_type` asks for."""
        tokens = self.batch(tokens)
        return returned(self.hook_embed(F.embedding(tokens, self.table)), tokens, return_type)

    def initialise(self, generator: torch.Generator) -> None:
        """Start from the uniform law; there is nothing to draw."""
        del generator
        nn.init.zeros_(self.table)
