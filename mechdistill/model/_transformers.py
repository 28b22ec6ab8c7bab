"""Our weights as a Hugging Face model, exactly, so that every tool that opens GPT-2 or Llama opens them.

Learned positions with LayerNorm are GPT-2's; rotary positions with RMSNorm are Llama's. What neither computes is
refused by name, never approximated. An attention-only model gets MLPs of one hidden unit and zeros, since both
architectures have them.
"""

from typing import Any

import torch
from torch import Tensor

from mechdistill.config import ModelConfig
from mechdistill.errors import MechdistillError, quoted
from mechdistill.model._bigram import Bigram
from mechdistill.model._bridge_config import NORM_EPS
from mechdistill.model._export import native_weights
from mechdistill.model._rotary import BASE
from mechdistill.model._transformer import Transformer

GPT2, LLAMA = "GPT-2", "Llama"
# the architecture that has both, and what its MLP may compute: our word and transformers'
_ARCHITECTURES = {("learned", "layernorm"): GPT2, ("rotary", "rmsnorm"): LLAMA}
_ACTIVATIONS = {GPT2: {"gelu": "gelu", "relu": "relu"}, LLAMA: {"swiglu": "silu"}}


def to_transformers(model: Any) -> Any:
    """A transformer of ours as a `GPT2LMHeadModel`, or as a `LlamaForCausalLM`: same logits, to rounding.

    norm=layernorm with positions=learned is GPT-2: any biases, tied or not, act=gelu (the exact one) or relu; grouped
    key-value heads are written out, one for each query head, and d_model must be n_heads·d_head. norm=rmsnorm with
    positions=rotary is Llama: any d_head, grouped heads, biases, act=swiglu. Attention-only models have MLPs of one
    unit and zeros. Logits agree to 1e-5 in float32; in float64 GPT-2's to 1e-10, Llama's to float32 rounding, since
    its RMSNorm computes in float32. Dtype and device stay; the weights are copies, in evaluation mode, and without
    dropout. Biases that the model lacks are zeros there, where the architecture has them.

    Llama pairs dimension i of a head with i + d_head/2 for its rotation, and we 2i with 2i+1, so the dimensions within
    queries and keys are in another order there; scores, patterns, values and all else are the same.

    Raises `MechdistillError` for what neither computes: the bigram table, and any other option, which it names.
    """
    if isinstance(model, Bigram):
        raise MechdistillError("model.kind=bigram: has no transformers form; export a transformer")
    if not isinstance(model, Transformer):
        raise MechdistillError(f"model={quoted(model)}: must be a model of mechdistill's, as run.model() gives it")
    architecture = transformers_architecture(model.config)
    # imported here: transformers costs as much as torch. Its constructors draw weights from the global generator
    with torch.random.fork_rng(devices=[]):
        exported = _gpt2(model) if architecture == GPT2 else _llama(model)
    exported = exported.to(device=model.W_E.device, dtype=model.W_E.dtype)
    weights = (_gpt2_weights if architecture == GPT2 else _llama_weights)(model)
    # all that is left are biases that we do not have, and MLPs that we do not have
    held = {name: weights.pop(name, torch.zeros_like(w)) for name, w in exported.state_dict().items()}
    if weights:
        raise AssertionError(f"no place in {architecture} for {sorted(weights)}")
    exported.load_state_dict(held)
    return exported.eval()


def transformers_architecture(config: ModelConfig) -> str:
    """'GPT-2' or 'Llama', whichever computes what a model of this config does.

    Raises `MechdistillError` naming the option that neither has.
    """
    if not config.has_heads:
        raise MechdistillError("model.kind=bigram: has no transformers form; export a transformer")
    if config.clamps:
        raise MechdistillError(
            f"model.clamps: {config.clamps[0].head} is clamped, which transformers would not hold; export the bare "
            "network, run.model(step, clamped=False), or use --format native"
        )
    architecture = _ARCHITECTURES.get((config.positions, config.norm))
    if architecture is None:
        raise MechdistillError(
            f"model.norm={config.norm}, model.positions={config.positions}: transformers has layernorm with learned "
            "positions (GPT-2) and rmsnorm with rotary ones (Llama); train with one of these, or use "
            "to_transformer_lens or --format native"
        )
    if not config.attn_only and config.act not in _ACTIVATIONS[architecture]:
        allowed = " or ".join(_ACTIVATIONS[architecture])
        raise MechdistillError(
            f"model.act={config.act}: {architecture}, which norm={config.norm} with positions={config.positions} "
            f"makes it, has {allowed}; train with one of these, or use to_transformer_lens or --format native"
        )
    if architecture == GPT2 and config.n_heads * config.head_width != config.d_model:
        raise MechdistillError(
            f"model.d_head={config.head_width}: GPT-2 has d_model / n_heads = {config.d_model / config.n_heads:g}; "
            "train without d_head, or use to_transformer_lens or --format native"
        )
    return architecture


def _gpt2(model: Transformer) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = model.config
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=model.d_vocab,
            n_positions=model.n_ctx,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_inner=1 if config.attn_only else config.mlp_width,
            activation_function="gelu" if config.attn_only else _ACTIVATIONS[GPT2][config.act],
            layer_norm_epsilon=NORM_EPS,
            tie_word_embeddings=config.tied,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,  # no token of ours begins, ends or pads a text
            eos_token_id=None,
            pad_token_id=None,
        )
    )


def _llama(model: Transformer) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=model.d_vocab,
            max_position_embeddings=model.n_ctx,
            hidden_size=config.d_model,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_width,
            intermediate_size=1 if config.attn_only else config.mlp_width,
            hidden_act="silu",
            rms_norm_eps=NORM_EPS,
            rope_parameters={"rope_type": "default", "rope_theta": float(BASE)},
            attention_bias=config.biases,
            mlp_bias=config.biases and not config.attn_only,
            tie_word_embeddings=config.tied,
            bos_token_id=None,  # no token of ours begins, ends or pads a text
            eos_token_id=None,
            pad_token_id=None,
        )
    )


def _gpt2_weights(model: Transformer) -> dict[str, Tensor]:
    """All our weights under GPT-2's names; its linear weights are [in, out]."""
    assert model.W_pos is not None
    ours = native_weights(model)
    weights = {
        "transformer.wte.weight": ours["embed.weight"],
        "transformer.wpe.weight": ours["pos_embed.weight"],
        "lm_head.weight": ours["unembed.weight"],
        **_norm("transformer.ln_f", ours, "ln_final"),
    }
    for i, block in enumerate(model.blocks):
        attn, here, there = block.attn, f"blocks.{i}", f"transformer.h.{i}"
        times = attn.n_heads // attn.n_kv_heads
        keys = [part.repeat_interleave(times, dim=0) for part in (attn.W_K, attn.W_V)]
        projections = [part.detach().transpose(0, 1).flatten(1) for part in (attn.W_Q, *keys)]
        weights[f"{there}.attn.c_attn.weight"] = torch.cat(projections, dim=1)
        weights[f"{there}.attn.c_proj.weight"] = attn.W_O.detach().flatten(0, 1)
        if attn.b_Q is not None and attn.b_K is not None and attn.b_V is not None and attn.b_O is not None:
            biases = (attn.b_Q, *(part.repeat_interleave(times, dim=0) for part in (attn.b_K, attn.b_V)))
            weights[f"{there}.attn.c_attn.bias"] = torch.cat([part.detach().flatten() for part in biases])
            weights[f"{there}.attn.c_proj.bias"] = attn.b_O.detach()
        weights |= _norm(f"{there}.ln_1", ours, f"{here}.ln1")
        if block.mlp is None:  # reads a norm like any other, and makes nothing of it
            weights[f"{there}.ln_2.weight"] = torch.ones_like(ours[f"{here}.ln1.weight"])
        else:
            weights |= _norm(f"{there}.ln_2", ours, f"{here}.ln2")
            for name, part in (("c_fc", "in"), ("c_proj", "out")):
                weights[f"{there}.mlp.{name}.weight"] = ours[f"{here}.mlp.{part}.weight"].T
                if block.mlp.b_in is not None:
                    weights[f"{there}.mlp.{name}.bias"] = ours[f"{here}.mlp.{part}.bias"]
    return weights


def _llama_weights(model: Transformer) -> dict[str, Tensor]:
    """All our weights under Llama's names, the dimensions within queries and keys in its order."""
    ours = native_weights(model)
    weights = {
        "model.embed_tokens.weight": ours["embed.weight"],
        "lm_head.weight": ours["unembed.weight"],
        **_norm("model.norm", ours, "ln_final"),
    }
    for i, block in enumerate(model.blocks):
        here, there = f"blocks.{i}", f"model.layers.{i}"
        leaves = ("weight", "bias") if model.config.biases else ("weight",)
        for leaf in leaves:
            for name in "qkvo":
                weight = ours[f"{here}.attn.{name}.{leaf}"]
                weights[f"{there}.self_attn.{name}_proj.{leaf}"] = (
                    _halved(weight, block.attn.d_head) if name in "qk" else weight
                )
        weights |= _norm(f"{there}.input_layernorm", ours, f"{here}.ln1")
        if block.mlp is None:
            weights[f"{there}.post_attention_layernorm.weight"] = torch.ones_like(ours[f"{here}.ln1.weight"])
            continue
        weights |= _norm(f"{there}.post_attention_layernorm", ours, f"{here}.ln2")
        for name, part in (("gate", "gate"), ("up", "in"), ("down", "out")):
            weights[f"{there}.mlp.{name}_proj.weight"] = ours[f"{here}.mlp.{part}.weight"]
            if model.config.biases and part != "gate":  # the gate has none with us, so zeros there
                weights[f"{there}.mlp.{name}_proj.bias"] = ours[f"{here}.mlp.{part}.bias"]
    return weights


def _halved(rows: Tensor, d_head: int) -> Tensor:
    """Rows [head·d_head, ...] with every head's even dimensions first and its odd ones behind them."""
    pairs = rows.unflatten(0, (-1, d_head // 2, 2))
    return pairs.transpose(1, 2).flatten(0, 2)


def _norm(there: str, ours: dict[str, Tensor], here: str) -> dict[str, Tensor]:
    return {f"{there}.{name[len(here) + 1 :]}": w for name, w in ours.items() if name.startswith(f"{here}.")}
