"""A TransformerLens bridge as a model of ours: the inverse of the export.

A bridge is ours if its config is what the export of some `ModelConfig` would have. So the nearest `ModelConfig` is
read off, and any other setting that differs from its export is refused by name: nothing is dropped in silence, not
even an option that a later TransformerLens adds.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from mechdistill.config import ModelConfig, problem
from mechdistill.errors import MechdistillError
from mechdistill.model._bridge_config import NORMS, POSITIONS, bridge_config
from mechdistill.model._export import native_weights
from mechdistill.model._transformer import Transformer

# settings that do not change what the weights compute (whether they are tied is read off the weights)
_NEUTRAL = {
    "architecture",
    "attn_implementation",
    "checkpoint_index",
    "checkpoint_label_type",
    "checkpoint_value",
    "default_padding_side",
    "default_prepend_bos",
    "device",
    "dtype",
    "from_checkpoint",
    "init_mode",
    "init_weights",
    "initializer_range",
    "model_name",
    "n_devices",
    "n_params",
    "seed",
    "tie_word_embeddings",
    "tokenizer_appends_eos",
    "tokenizer_name",
    "tokenizer_prepends_bos",
    "trust_remote_code",
    "use_attn_in",
    "use_attn_result",
    "use_hook_mlp_in",
    "use_hook_tokens",
    "use_split_qkv_input",
    "uses_rms_norm",
}


def from_transformer_lens(bridge: Any) -> Transformer:
    """A copy of a bridge that `TransformerBridge.boot_native` made, ours or another, with the same logits and dtype.

    Biases are there if any of the bridge's is not zero; the unembedding is tied if it equals the embedding.

    Raises `MechdistillError`, naming the setting, for what we do not have: an unembedding bias, another activation
    or norm (the folded *Pre kinds included), soft caps, scaled scores, scaled or partial rotary positions, attention
    that looks ahead, attention parallel to the MLP, a bridge in compatibility mode, a pretrained architecture.
    """
    architecture = getattr(getattr(bridge, "cfg", None), "architecture", None)
    if architecture != "TransformerLensNative":
        raise MechdistillError(
            f"bridge: must come from TransformerBridge.boot_native, not be {architecture or type(bridge).__name__}"
        )
    if bridge.compatibility_mode:
        raise MechdistillError(
            "bridge.compatibility_mode=True: its weights may be folded and centred; import it before "
            "enable_compatibility_mode()"
        )
    weights: dict[str, Tensor] = bridge.state_dict()
    if "unembed.bias" in weights and weights["unembed.bias"].any():
        raise MechdistillError("bridge.unembed.bias: must be zero, since mechdistill's unembedding has no bias")
    config = _config(bridge.cfg, weights)
    model = Transformer(config, d_vocab=bridge.cfg.d_vocab, n_ctx=bridge.cfg.n_ctx)
    model = model.to(weights["embed.weight"].device, weights["embed.weight"].dtype)
    for name, ours in native_weights(model).items():
        if name in weights:
            ours.copy_(weights[name])
        else:
            ours.zero_()  # a bias of the MLP, where the bridge's gated one has none
    return model


def _config(cfg: Any, weights: dict[str, Tensor]) -> ModelConfig:
    """The ModelConfig whose export has this config; raises `MechdistillError` for the first setting that differs."""
    theirs = _canonical(cfg)
    inner = [weight for name, weight in weights.items() if ".attn." in name or ".mlp." in name]
    try:
        config = ModelConfig(
            n_layers=cfg.n_layers,
            d_model=cfg.d_model,
            n_heads=cfg.n_heads,
            n_kv_heads=None if theirs["n_key_value_heads"] == cfg.n_heads else cfg.n_key_value_heads,
            d_head=None if cfg.n_heads * cfg.d_head == cfg.d_model else cfg.d_head,
            attn_only=cfg.attn_only,
            d_mlp=None if cfg.attn_only or cfg.d_mlp == 4 * cfg.d_model else cfg.d_mlp,
            act="swiglu" if theirs.get("gated_mlp") else "relu" if theirs.get("act_fn") == "relu" else "gelu",
            norm=_ours(NORMS, theirs["normalization_type"], "layernorm"),
            positions=_ours(POSITIONS, theirs["positional_embedding_type"], "learned"),
            tied=torch.equal(weights["embed.weight"], weights["unembed.weight"]),
            biases=any(bool(w.any()) for w in inner if w.ndim == 1),
        )
    except ValidationError as error:
        raise MechdistillError(f"bridge.cfg.{problem(error)}") from None
    ours = _canonical(bridge_config(config, d_vocab=cfg.d_vocab, n_ctx=cfg.n_ctx))
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise MechdistillError(
                f"bridge.cfg.{name}={getattr(cfg, name, None)!r}: must be {ours.get(name)!r}, the nearest that "
                "mechdistill has; analyse this bridge with TransformerLens, or train one with that"
            )
    return config


def _ours(words: Mapping[str, str | None], theirs: str | None, nearest: str) -> Any:
    return next((word for word, their_word in words.items() if their_word == theirs), nearest)


def _canonical(cfg: Any) -> dict[str, Any]:
    """The settings that matter, those that mean the same written the same."""
    settings: dict[str, Any] = {name: value for name, value in cfg.to_dict().items() if name not in _NEUTRAL}
    norm = settings["normalization_type"]
    settings["normalization_type"] = norm if norm is None else norm.upper()
    settings["positional_embedding_type"] = (settings["positional_embedding_type"] or "standard").lower()
    settings["act_fn"] = (settings["act_fn"] or ("silu" if settings["gated_mlp"] else "gelu")).lower()
    settings["act_fn"] = {"swish": "silu"}.get(settings["act_fn"], settings["act_fn"])
    settings["n_key_value_heads"] = settings["n_key_value_heads"] or cfg.n_heads
    settings["rotary_dim"] = settings["rotary_dim"] or cfg.d_head
    settings["d_vocab_out"] = settings["d_vocab_out"] if settings["d_vocab_out"] > 0 else cfg.d_vocab
    for name, default in (
        ("attn_scale", math.sqrt(cfg.d_head)),
        ("attn_scores_soft_cap", 0),
        ("output_logits_soft_cap", 0),
    ):
        settings[name] = settings[name] if settings[name] > 0 else default
    idle: set[str] = set()
    if cfg.attn_only:
        idle |= {"act_fn", "gated_mlp", "d_mlp"}
    if settings["normalization_type"] is None:
        idle |= {"eps"}
    if settings["normalization_type"] == "RMS":
        idle |= {"final_rms"}
    if settings["positional_embedding_type"] == "standard":
        idle |= {"rotary_dim", "rotary_base", "rope_scaling"}
    return {name: value for name, value in settings.items() if name not in idle}
