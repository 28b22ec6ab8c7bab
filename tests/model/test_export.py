import pytest
import torch
from torch import Tensor
from transformer_lens.tools.analysis import logit_lens

from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram, Transformer, to_transformer_lens
from tests.helpers import transformer
from tests.model.options import COVER, MLPS, grid, label

TOKENS = torch.randint(0, 12, (4, 16), generator=torch.Generator().manual_seed(3))
EXPORTED = [options for options in COVER if not (options.get("act") == "swiglu" and options.get("biases"))]


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / ours.norm()).item()


def with_float64_norms(bridge: torch.nn.Module) -> torch.nn.Module:
    """The bridge's RMSNorm computes in float32, whatever the dtype, unless told to compute like its LayerNorm."""
    for module in bridge.modules():
        if hasattr(module, "use_native_layernorm_autograd"):
            module.use_native_layernorm_autograd = False
    return bridge


def assert_exact(options: dict) -> None:
    """In float32 both are a few 1e-7 from the truth; in float64 only an error of ours could show."""
    model = transformer(**options)
    if model.config.norm == "none":  # nothing keeps the stream small there, and large logits are ill-conditioned
        for parameter in model.parameters():
            parameter.mul_(0.5)
    assert relative_error(model(TOKENS), to_transformer_lens(model)(TOKENS)) <= 1e-6, label(options)
    bridge = to_transformer_lens(model.double())
    theirs = with_float64_norms(bridge)(TOKENS)
    assert theirs.dtype == torch.float64
    assert relative_error(model(TOKENS), theirs) <= 1e-13, label(options)


@pytest.mark.parametrize("mlp", MLPS, ids=label)
def test_logits_equal_the_bridges_over_the_grid(mlp: dict) -> None:
    """Every other combination, others for each MLP: five has no factor in common with the grid's axes."""
    for options in (each for i, each in enumerate(grid()) if (i + MLPS.index(mlp)) % 5 < 2):
        if not (mlp.get("act") == "swiglu" and options["biases"]):
            assert_exact({**mlp, **options})


@pytest.mark.parametrize("n_layers", [1, 3])
@pytest.mark.parametrize("options", EXPORTED, ids=label)
def test_logits_equal_the_bridges_at_other_depths(options: dict, n_layers: int) -> None:
    assert_exact({**options, "n_layers": n_layers})


def test_a_float64_rmsnorm_export_agrees_to_float32() -> None:
    model = transformer(norm="rmsnorm").double()
    assert 1e-13 < relative_error(model(TOKENS), to_transformer_lens(model)(TOKENS)) <= 1e-6


@pytest.mark.parametrize("options", EXPORTED, ids=label)
def test_patterns_and_head_outputs_equal_the_bridges(options: dict) -> None:
    model = transformer(**options)
    _, ours = model.run_with_cache(TOKENS)
    _, theirs = to_transformer_lens(model).run_with_cache(TOKENS)
    names = ["attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_z", "attn.hook_pattern"]
    names += ["hook_resid_pre", "hook_attn_out", "hook_resid_post"]
    if not model.config.attn_only:
        names += ["hook_resid_mid", "hook_mlp_out", "mlp.hook_pre", "mlp.hook_post"]
    if model.config.act == "swiglu":
        names += ["mlp.hook_pre_linear"]
    for layer in range(2):
        for name in (f"blocks.{layer}.{name}" for name in names):
            torch.testing.assert_close(ours[name], theirs[name].reshape(ours[name].shape), rtol=1e-4, atol=1e-5)


def test_the_export_is_a_copy() -> None:
    model = transformer()
    bridge = to_transformer_lens(model)
    tokens = torch.arange(12)[None]
    before = bridge(tokens)
    with torch.no_grad():
        model.W_E.add_(1.0)
    torch.testing.assert_close(bridge(tokens), before)


def test_a_tie_survives_as_equal_values() -> None:
    bridge = to_transformer_lens(transformer(tied=True))
    assert torch.equal(bridge.W_U, bridge.W_E.T)


def final_norm(model: Transformer, x: Tensor) -> Tensor:
    """The last norm, written out from its weights."""
    if model.config.norm == "none":
        return x
    centred = x - x.mean(-1, keepdim=True) if model.config.norm == "layernorm" else x
    normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * model.ln_final.weight
    return normed + model.ln_final.bias if model.config.norm == "layernorm" else normed


@pytest.mark.parametrize("options", EXPORTED, ids=label)
def test_transformer_lens_logit_lens_runs_on_an_export(options: dict) -> None:
    model = transformer(**options)
    bridge = to_transformer_lens(model)
    with torch.no_grad():
        _, streams = model.run_with_cache(TOKENS, names_filter=lambda name: "resid" in name)
        _, cache = bridge.run_with_cache(TOKENS)
        for lens in (logit_lens(bridge, TOKENS, positions=None), cache.logit_lens(positions=None)):
            assert lens.labels == ["0_pre", "1_pre", "final_post"]
            names = ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_pre", "blocks.1.hook_resid_post"]
            for values, name in zip(lens.values, names, strict=True):
                torch.testing.assert_close(
                    values, final_norm(model, streams[name]) @ model.W_U, rtol=1e-4, atol=1e-4, msg=name
                )
            torch.testing.assert_close(lens.values[-1], model(TOKENS), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", EXPORTED, ids=label)
def test_logit_attributions_are_heads_projected_on_the_unembedding(options: dict) -> None:
    """Σ over components = the logit, where the final norm is the identity but for its scale."""
    model = transformer(**options)
    if model.config.norm != "none":
        model.ln_final.weight.fill_(1.0)
    if model.config.norm == "layernorm":
        model.ln_final.bias.zero_()
    bridge = to_transformer_lens(model)
    targets = TOKENS.roll(-1, 1)
    _, ours = model.run_with_cache(TOKENS)
    _, cache = bridge.run_with_cache(TOKENS)
    heads, labels = cache.stack_head_results(return_labels=True, incl_remainder=True)
    attributions = cache.logit_attrs(heads, targets)
    directions = model.W_U.T[targets]
    last = ours["blocks.1.hook_resid_post"]
    centred = last - last.mean(-1, keepdim=True) if model.config.norm == "layernorm" else last
    scale = 1 if model.config.norm == "none" else (centred.pow(2).mean(-1) + 1e-5).sqrt()
    for name, attribution in zip(labels[:-1], attributions, strict=False):
        layer, head = (int(part) for part in name[1:].split("H"))
        result = ours[f"blocks.{layer}.attn.hook_result"][:, :, head]
        if model.config.norm == "layernorm":
            result = result - result.mean(-1, keepdim=True)
        torch.testing.assert_close(attribution, (result * directions).sum(-1) / scale, rtol=1e-4, atol=1e-4)
    logit = model(TOKENS).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(attributions.sum(0), logit, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", EXPORTED, ids=label)
def test_composition_scores_are_those_of_our_weights(options: dict) -> None:
    """‖W_OV W_QK‖ / (‖W_OV‖ ‖W_QK‖) and its kin for each head of layer 0 and each of layer 1 (Elhage et al. 2021)."""
    model = transformer(**options)
    bridge = to_transformer_lens(model)
    n_heads = model.config.n_heads
    group = n_heads // model.config.kv_heads
    first, second = (block.attn for block in model.blocks)
    for mode in "QKV":
        scores = bridge.all_composition_scores(mode)
        assert scores.head_labels == [f"L{layer}H{head}" for layer in range(2) for head in range(n_heads)]
        for a in range(n_heads):
            writes = first.W_V[a // group] @ first.W_O[a]
            for b in range(n_heads):
                qk = second.W_Q[b] @ second.W_K[b // group].T
                reads = {"Q": qk, "K": qk.T, "V": second.W_V[b // group] @ second.W_O[b]}[mode]
                by_hand = (writes @ reads).norm() / writes.norm() / reads.norm()
                torch.testing.assert_close(scores[0, a, 1, b], by_hand, rtol=1e-4, atol=1e-6)
        assert (scores[1] == 0).all()


def test_what_cannot_be_exported_is_refused_by_name() -> None:
    with pytest.raises(MechdistillError, match="bigram"):
        to_transformer_lens(Bigram(d_vocab=12, n_ctx=16))
    with pytest.raises(MechdistillError, match=r"model\.biases=True.*act=swiglu.*biases: false"):
        to_transformer_lens(transformer(attn_only=False, act="swiglu", biases=True))
