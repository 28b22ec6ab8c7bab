"""The shape of a model in TransformerLens's words."""

from transformer_lens import TransformerBridgeConfig

from mechdistill.config import ModelConfig

NORM_EPS = 1e-5  # of every norm, as in TransformerLens
# our word: TransformerLens's
NORMS = {"layernorm": "LN", "rmsnorm": "RMS", "none": None}
POSITIONS = {"learned": "standard", "rotary": "rotary"}
ACTIVATIONS = {"gelu": "gelu", "relu": "relu", "swiglu": "silu"}


def bridge_config(config: ModelConfig, *, d_vocab: int, n_ctx: int) -> TransformerBridgeConfig:
    """The `TransformerBridgeConfig` of a model of ours."""
    return TransformerBridgeConfig(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        n_key_value_heads=config.n_kv_heads,
        d_head=config.head_width,
        d_mlp=config.mlp_width,
        d_vocab=d_vocab,
        n_ctx=n_ctx,
        attn_only=config.attn_only,
        act_fn=ACTIVATIONS[config.act],
        gated_mlp=config.act == "swiglu",
        normalization_type=NORMS[config.norm],
        positional_embedding_type=POSITIONS[config.positions],
        eps=NORM_EPS,
        init_weights=False,
    )
