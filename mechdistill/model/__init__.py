"""The hooked transformer, the bigram table, sampling from them, and their ways to TransformerLens and transformers."""

import torch

from mechdistill.ambient import neutral
from mechdistill.config import ModelConfig
from mechdistill.model._bigram import Bigram
from mechdistill.model._cache import KVCache
from mechdistill.model._clamp import Clamped, clamped_patterns
from mechdistill.model._export import to_transformer_lens
from mechdistill.model._hooked import HookedModel, HookPoint
from mechdistill.model._import import from_transformer_lens
from mechdistill.model._language_model import LanguageModel
from mechdistill.model._tokens import whole_tokens
from mechdistill.model._transformer import Transformer
from mechdistill.model._transformers import to_transformers, transformers_architecture

Model = Transformer | Bigram


@neutral()
def build(config: ModelConfig, *, d_vocab: int, n_ctx: int, init_seed: int) -> Model:
    """The model of a config with weights drawn from `init_seed`: same seed, same weights."""
    model = (
        Transformer(config, d_vocab=d_vocab, n_ctx=n_ctx) if config.has_heads else Bigram(d_vocab=d_vocab, n_ctx=n_ctx)
    )
    model.initialise(torch.Generator().manual_seed(init_seed))
    return model


__all__ = [
    "Bigram",
    "Clamped",
    "HookPoint",
    "HookedModel",
    "KVCache",
    "LanguageModel",
    "Model",
    "Transformer",
    "build",
    "clamped_patterns",
    "from_transformer_lens",
    "to_transformer_lens",
    "to_transformers",
    "transformers_architecture",
    "whole_tokens",
]
