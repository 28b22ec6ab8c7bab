"""Our weights as a TransformerLens bridge, exactly, so that its tools apply.

`no_processing` is the point: never call `enable_compatibility_mode()` on the result while the model is still
training, since it folds and centres weights. Biases that we do not have are zeros there.
"""

from typing import Any

import torch
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.model._bigram import Bigram
from mechdistill.model._transformer import Transformer


def to_transformer_lens(model: Transformer | Bigram) -> Any:
    """A `TransformerBridge` (native format) with the same logits, to float32 rounding, on the same device.

    Raises `MechdistillError` for the bigram table, which is no transformer.
    """
    # imported here because the bridge costs most of TransformerLens's import time
    from transformer_lens import TransformerBridgeConfig
    from transformer_lens.model_bridge.sources import native

    if not isinstance(model, Transformer):
        raise MechdistillError("model.kind=bigram: has no TransformerLens form; export a transformer")
    config = model.config
    bridge = native.boot(
        TransformerBridgeConfig(
            n_layers=config.n_layers,
            d_model=config.d_model,
            n_heads=config.n_heads,
            d_head=config.head_width,
            d_mlp=config.mlp_width,
            d_vocab=model.d_vocab,
            n_ctx=model.n_ctx,
            attn_only=config.attn_only,
            act_fn=config.act,
            normalization_type="LN",
            eps=model.ln_final.eps,
            init_weights=False,
        ),
        device=model.W_E.device,
        dtype=model.W_E.dtype,
    )
    bridge.load_state_dict(_native_weights(model))
    return bridge.eval()


@torch.no_grad()
def _native_weights(model: Transformer) -> dict[str, Tensor]:
    """The state dict under native names; linear weights are [out, in] there."""
    weights = {
        "embed.weight": model.W_E,
        "pos_embed.weight": model.W_pos,
        "ln_final.weight": model.ln_final.weight,
        "ln_final.bias": model.ln_final.bias,
        "unembed.weight": model.W_U.T,
        "unembed.bias": torch.zeros_like(model.W_U[0]),
    }
    for i, block in enumerate(model.blocks):
        attn = block.attn
        q, k, v = attn.W_QKV.chunk(3)
        linear = {"attn.q": q, "attn.k": k, "attn.v": v, "attn.o": attn.W_O.flatten(0, 1).T}
        if block.mlp is not None:
            linear |= {"mlp.in": block.mlp.W_in.T, "mlp.out": block.mlp.W_out.T}
        for name, weight in linear.items():
            weights[f"blocks.{i}.{name}.weight"] = weight
            weights[f"blocks.{i}.{name}.bias"] = weight.new_zeros(len(weight))
        for norm in ("ln1",) if block.mlp is None else ("ln1", "ln2"):
            weights[f"blocks.{i}.{norm}.weight"] = getattr(block, norm).weight
            weights[f"blocks.{i}.{norm}.bias"] = getattr(block, norm).bias
    return {name: weight.detach().contiguous() for name, weight in weights.items()}
