from typing import Any

import pytest
import torch
from torch import nn
from transformer_lens import TransformerBridgeConfig
from transformer_lens.model_bridge.sources import native

from mechdistill.errors import MechdistillError
from mechdistill.model import from_transformer_lens, to_transformer_lens
from tests.helpers import transformer
from tests.model.options import MLPS, grid, label

TOKENS = torch.randint(0, 12, (4, 16), generator=torch.Generator().manual_seed(3))


def bridge(*, noise: float = 0.0, **changes: Any) -> Any:
    """A bridge that somebody else made; with noise on every parameter, biases and norms included."""
    settings: dict[str, Any] = {"n_layers": 2, "d_model": 16, "n_heads": 4, "d_head": 4, "d_vocab": 12, "n_ctx": 16}
    made = native.boot(TransformerBridgeConfig(**{**settings, "seed": 7, "act_fn": "gelu", **changes}), device="cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return made.eval()


@pytest.mark.parametrize("mlp", MLPS, ids=label)
def test_there_and_back_is_the_same_model(mlp: dict) -> None:
    for options in grid():
        if mlp.get("act") == "swiglu" and options["biases"]:
            continue
        ours = transformer(n_layers=1, **mlp, **options)
        back = from_transformer_lens(to_transformer_lens(ours))
        assert back.config == ours.config, label(options)
        assert list(back.state_dict()) == list(ours.state_dict())
        for name, weight in ours.state_dict().items():
            assert torch.equal(back.state_dict()[name], weight), f"{name} {label(options)}"
        torch.testing.assert_close(back(TOKENS), ours(TOKENS))


def test_dtype_is_kept_and_nothing_is_shared() -> None:
    theirs = to_transformer_lens(transformer().double())
    ours = from_transformer_lens(theirs)
    before = theirs(TOKENS)
    assert ours(TOKENS).dtype == torch.float64
    with torch.no_grad():
        ours.W_E.add_(1.0)
    torch.testing.assert_close(theirs(TOKENS), before)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"act_fn": "relu", "d_mlp": 20, "normalization_type": "RMS", "positional_embedding_type": "rotary"},
        {"gated_mlp": True, "act_fn": "silu", "normalization_type": "RMS", "final_rms": True, "n_key_value_heads": 2},
        {"gated_mlp": True, "act_fn": "swish", "normalization_type": None, "n_key_value_heads": 4, "rotary_dim": 4},
        {"attn_only": True, "act_fn": "solu", "normalization_type": None, "d_head": 6, "init_mode": "xavier_normal"},
        {"attn_only": True, "normalization_type": "ln", "positional_embedding_type": "rotary", "rotary_dim": 4},
    ],
    ids=label,
)
def test_a_foreign_bridge_keeps_its_logits(settings: dict, noise: float) -> None:
    theirs = bridge(noise=noise, **settings)
    ours = from_transformer_lens(theirs)
    expected = theirs(TOKENS)
    assert ((ours(TOKENS) - expected).norm() / expected.norm()).item() <= 1e-6
    assert ours.config.biases == (noise > 0)


def test_a_trained_bridge_keeps_its_logits() -> None:
    theirs = bridge().train()
    optimiser = torch.optim.AdamW(theirs.parameters(), lr=1e-2)
    for _ in range(5):
        nn.functional.cross_entropy(theirs(TOKENS)[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()
    ours = from_transformer_lens(theirs)
    torch.testing.assert_close(ours(TOKENS), theirs(TOKENS), rtol=1e-5, atol=1e-5)
    assert ours.config.biases
    assert not ours.config.tied


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"act_fn": "gelu_new"}, r"act_fn='gelu_new': must be 'gelu'"),
        ({"act_fn": "solu_ln"}, "act_fn='solu_ln'"),
        ({"act_fn": "silu"}, "act_fn='silu'"),
        ({"gated_mlp": True, "act_fn": "gelu"}, "act_fn='gelu': must be 'silu'"),
        ({"normalization_type": "LNPre"}, "normalization_type='LNPre'"),
        ({"normalization_type": "RMSPre"}, "normalization_type='RMSPre'"),
        ({"final_rms": True}, "final_rms=True"),
        ({"eps": 1e-6}, "eps=1e-06"),
        ({"attention_dir": "bidirectional"}, "attention_dir='bidirectional'"),
        ({"attn_scores_soft_cap": 5.0}, r"attn_scores_soft_cap=5\.0"),
        ({"output_logits_soft_cap": 5.0}, r"output_logits_soft_cap=5\.0"),
        ({"attn_scale": 3.0}, r"attn_scale=3\.0"),
        ({"parallel_attn_mlp": True}, "parallel_attn_mlp=True"),
        ({"positional_embedding_type": "rotary", "rotary_dim": 2}, "rotary_dim=2"),
        ({"positional_embedding_type": "rotary", "rotary_base": 500}, "rotary_base=500"),
        ({"d_vocab_out": 7}, "d_vocab_out=7"),
    ],
)
def test_what_we_do_not_have_is_refused_by_name(settings: dict, named: str) -> None:
    with pytest.raises(MechdistillError, match=rf"bridge\.cfg\.{named}"):
        from_transformer_lens(bridge(**settings))


def test_scaled_rotary_positions_are_refused_by_name() -> None:
    config = TransformerBridgeConfig(
        n_layers=1, d_model=16, n_heads=4, d_head=4, d_vocab=12, n_ctx=16, positional_embedding_type="rotary"
    )
    config.rope_scaling = {"type": "linear", "factor": 2.0}
    with pytest.raises(MechdistillError, match=r"bridge\.cfg\.rope_scaling"):
        from_transformer_lens(native.boot(config, device="cpu"))


def test_a_bridge_beyond_our_bounds_is_refused_by_name() -> None:
    with pytest.raises(MechdistillError, match=r"bridge\.cfg\.n_layers=0"):
        from_transformer_lens(bridge(n_layers=0, init_weights=False))


def test_an_unembedding_bias_is_refused_by_name() -> None:
    theirs = bridge()
    theirs.load_state_dict({**theirs.state_dict(), "unembed.bias": torch.ones(12)})
    with pytest.raises(MechdistillError, match=r"unembed\.bias"):
        from_transformer_lens(theirs)


def test_a_folded_bridge_and_what_is_no_bridge_are_refused() -> None:
    theirs = bridge()
    theirs.enable_compatibility_mode()
    with pytest.raises(MechdistillError, match="compatibility"):
        from_transformer_lens(theirs)
    for other in (transformer(), nn.Linear(2, 2)):
        with pytest.raises(MechdistillError, match="boot_native"):
            from_transformer_lens(other)


def test_attention_biases_beside_a_gated_mlp_are_kept() -> None:
    theirs = bridge(noise=0.1, gated_mlp=True, act_fn="silu")
    ours = from_transformer_lens(theirs)
    assert ours.config.biases
    assert ours.blocks[0].mlp.b_in is not None
    assert not ours.blocks[0].mlp.b_in.any()
    torch.testing.assert_close(ours(TOKENS), theirs(TOKENS), rtol=1e-5, atol=1e-5)
