"""Our weights as a TransformerLens bridge, exactly, so that its tools apply.

`no_processing` is the point: never call `enable_compatibility_mode()` on the result, since it folds and centres
weights, which is wrong while the model is still training and moves the logits where norms are RMS or absent.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mechdistill.errors import MechdistillError, quoted
from mechdistill.model._bigram import Bigram
from mechdistill.model._bridge_config import bridge_config
from mechdistill.model._transformer import Transformer


def to_transformer_lens(model: Any) -> Any:
    """A transformer of ours as a `TransformerBridge` (native format): same logits, to rounding, dtype and device.

    Biases that the model lacks are zeros there. A tie survives only as equal values: the bridge has an unembedding of
    its own, and training the bridge would part the two. Its RMSNorm computes in float32 whatever the dtype, so with
    norm=rmsnorm a float64 export agrees to float32 rounding.

    Raises `MechdistillError` for what it cannot hold: the bigram table, and biases with act=swiglu.
    """
    # imported here because the bridge costs most of TransformerLens's import time
    from transformer_lens.model_bridge.sources import native

    if isinstance(model, Bigram):
        raise MechdistillError("model.kind=bigram: has no TransformerLens form; export a transformer")
    if not isinstance(model, Transformer):
        raise MechdistillError(f"model={quoted(model)}: must be a model of mechdistill's, as run.model() gives it")
    config = model.config
    if config.clamps:
        raise MechdistillError(
            f"model.clamps: {config.clamps[0].head} is clamped, which TransformerLens would not hold; export the bare "
            "network, run.model(step, clamped=False)"
        )
    if config.act == "swiglu" and config.biases and not config.attn_only:
        raise MechdistillError(
            "model.biases=True: TransformerLens's gated MLP has no biases, so act=swiglu exports only without them; "
            "train with biases: false, or with act: gelu or relu"
        )
    bridge = native.boot(
        bridge_config(config, d_vocab=model.d_vocab, n_ctx=model.n_ctx), device=model.W_E.device, dtype=model.W_E.dtype
    )
    weights = {name: weight.contiguous() for name, weight in native_weights(model).items()}
    # all that is left are biases that we do not have
    bridge.load_state_dict({name: weights.get(name, torch.zeros_like(w)) for name, w in bridge.state_dict().items()})
    return bridge.eval()


def native_weights(model: Transformer) -> dict[str, Tensor]:
    """Views of all our weights under native names, so that writing to one writes the model.

    Linear weights are [out, in] there. A tied W_E has two names.
    """
    weights: dict[str, Tensor] = {"embed.weight": model.W_E, "unembed.weight": model.W_U.T}
    if model.W_pos is not None:
        weights["pos_embed.weight"] = model.W_pos
    weights |= _norm_weights("ln_final", model.ln_final)
    for i, block in enumerate(model.blocks):
        attn, mlp, prefix = block.attn, block.mlp, f"blocks.{i}"
        rows = [heads * attn.d_head for heads in attn.parts]
        for name, weight in zip("qkv", attn.W_QKV.split(rows), strict=True):
            weights[f"{prefix}.attn.{name}.weight"] = weight
        weights[f"{prefix}.attn.o.weight"] = attn.W_O.flatten(0, 1).T
        if attn.b_QKV is not None and attn.b_O is not None:
            for name, bias in zip("qkv", attn.b_QKV.split(rows), strict=True):
                weights[f"{prefix}.attn.{name}.bias"] = bias
            weights[f"{prefix}.attn.o.bias"] = attn.b_O
        weights |= _norm_weights(f"{prefix}.ln1", block.ln1)
        if mlp is not None:
            weights |= _norm_weights(f"{prefix}.ln2", block.ln2)
            matrices = {"gate.weight": mlp.W_gate, "in.weight": mlp.W_in, "out.weight": mlp.W_out}
            weights |= {f"{prefix}.mlp.{name}": w.T for name, w in matrices.items() if w is not None}
            biases = {"in.bias": mlp.b_in, "out.bias": mlp.b_out}
            weights |= {f"{prefix}.mlp.{name}": b for name, b in biases.items() if b is not None}
    return {name: weight.detach() for name, weight in weights.items()}


def _norm_weights(name: str, norm: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{leaf}": parameter for leaf, parameter in norm.named_parameters()}
