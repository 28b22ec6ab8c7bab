import math
import re

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from mechdistill.config import ModelConfig, problem
from mechdistill.errors import MechdistillError
from mechdistill.model import build
from tests.helpers import transformer
from tests.model.options import COVER, label

KINDS = [{"attn_only": False, "act": "relu", "d_head": 4}, *COVER]


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 12, (3, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_both_attention_paths_agree(kind: dict, tokens: torch.Tensor) -> None:
    model = transformer(**kind)
    fused = model(tokens)
    listened = []
    explicit = model.run_with_hooks(
        tokens, fwd_hooks=[("blocks.1.attn.hook_pattern", lambda p, hook: listened.append(p))]
    )
    assert listened, "the explicit path did not run"
    torch.testing.assert_close(explicit, fused, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_both_paths_have_the_same_gradients(kind: dict, tokens: torch.Tensor) -> None:
    model = transformer(**kind).double().requires_grad_(True)
    gradients = []
    for hooks in ([], [("blocks.0.attn.hook_attn_scores", lambda s, hook: None)]):
        model.zero_grad()
        F.cross_entropy(model.run_with_hooks(tokens, fwd_hooks=hooks).flatten(0, 1), tokens.flatten()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients)
    assert all(p.grad.any() for p in model.parameters()), "a parameter has no effect"


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_forward_equals_the_formula(kind: dict, tokens: torch.Tensor) -> None:
    """Written out head by head, in float64, from the weights under their public names."""
    model = transformer(**kind).double()
    config, length = model.config, tokens.shape[1]

    def norm(x: torch.Tensor, module: torch.nn.Module) -> torch.Tensor:
        if config.norm == "none":
            return x
        centred = x - x.mean(-1, keepdim=True) if config.norm == "layernorm" else x
        normed = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * module.weight
        return normed + module.bias if config.norm == "layernorm" else normed

    def turn(x: torch.Tensor) -> torch.Tensor:
        """Pairs as complex numbers, multiplied by exp(i·position·frequency)."""
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        frequency = 10_000.0 ** (-torch.arange(0, config.head_width, 2) / config.head_width)
        angle = torch.arange(length)[:, None] * frequency
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)

    def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return x @ weight if bias is None else x @ weight + bias

    x = model.W_E[tokens]
    if config.positions == "learned":
        x = x + model.W_pos[:length]
    for block in model.blocks:
        inputs, attention = norm(x, block.ln1), block.attn
        for head in range(config.n_heads):
            source = head * config.kv_heads // config.n_heads
            q, k, v = (
                affine(inputs, weight[h], None if bias is None else bias[h])
                for weight, bias, h in (
                    (attention.W_Q, attention.b_Q, head),
                    (attention.W_K, attention.b_K, source),
                    (attention.W_V, attention.b_V, source),
                )
            )
            if config.positions == "rotary":
                q, k = turn(q), turn(k)
            scores = q @ k.mT / math.sqrt(config.head_width)
            future = torch.ones(scores.shape[-2:]).triu(1).bool()
            x = x + scores.masked_fill(future, -math.inf).softmax(-1) @ v @ attention.W_O[head]
        if config.biases:
            x = x + attention.b_O
        if block.mlp is not None:
            mlp, inputs = block.mlp, norm(x, block.ln2)
            hidden = affine(inputs, mlp.W_in, mlp.b_in)
            if config.act == "swiglu":
                hidden = F.silu(inputs @ mlp.W_gate) * hidden
            else:
                hidden = {"gelu": F.gelu, "relu": F.relu}[config.act](hidden)
            x = x + affine(hidden, mlp.W_out, mlp.b_out)
    unembedding = model.W_E.T if config.tied else model.W_U
    # rotary tables are float32, as TransformerLens's are
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if config.positions == "rotary" else {}
    torch.testing.assert_close(model(tokens), norm(x, model.ln_final) @ unembedding, **tolerance)


@pytest.mark.parametrize("kind", KINDS, ids=label)
def test_nothing_looks_ahead(kind: dict, tokens: torch.Tensor) -> None:
    model = transformer(**kind)
    changed = tokens.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % 12
    torch.testing.assert_close(model(changed)[:, :10], model(tokens)[:, :10])
    assert not torch.allclose(model(changed)[:, 10:], model(tokens)[:, 10:])


def test_same_seed_same_weights_and_another_seed_others() -> None:
    config = ModelConfig(d_model=16, n_heads=2, attn_only=False, act="swiglu", biases=True)
    models = [build(config, d_vocab=12, n_ctx=16, init_seed=seed) for seed in (5, 5, 6)]
    first, again, other = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    matrices = [(n, p) for n, p in models[0].named_parameters() if p.ndim > 1]
    for name, parameter in matrices:
        expected = 0.02 / 2 if name.endswith(("W_O", "W_out")) else 0.02
        assert parameter.std().item() == pytest.approx(expected, rel=0.25), name
    assert not any(p.any() for n, p in models[0].named_parameters() if n.rsplit(".", 1)[-1].startswith("b_"))


def test_the_default_model_has_the_weights_it_always_had() -> None:
    """Runs of earlier versions resume and compare only if names, order and draws stay."""
    model = build(ModelConfig(attn_only=False), d_vocab=64, n_ctx=64, init_seed=3)
    block = ["ln1.weight", "ln1.bias", "attn.W_QKV", "attn.W_O"]
    block += ["ln2.weight", "ln2.bias", "mlp.W_in", "mlp.W_out"]
    expected = ["W_E", "W_pos", "W_U", *(f"blocks.{i}.{n}" for i in range(2) for n in block)]
    assert list(model.state_dict()) == [*expected, "ln_final.weight", "ln_final.bias"]
    torch.testing.assert_close(model.W_E[0, :2], torch.tensor([-0.00153288583, 0.00719763013]))
    torch.testing.assert_close(model.blocks[1].mlp.W_out[-1, -2:], torch.tensor([4.11392466e-05, -0.00336525613]))


def test_a_tied_unembedding_is_one_parameter_stored_once() -> None:
    model = transformer(tied=True).requires_grad_(True)
    assert "W_U" not in model.state_dict()
    assert "W_U" not in dict(model.named_parameters())
    assert torch.equal(model.W_U, model.W_E.T)
    model(torch.tensor([[3]])).logsumexp(-1).sum().backward()
    assert model.W_E.grad[5].any(), "the gradient of the unembedding did not arrive"
    other = transformer(tied=True, seed=1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.W_U, model.W_U)


def test_rotary_scores_depend_on_distance_alone(tokens: torch.Tensor) -> None:
    """One token at every position: the score is a function of query - source."""
    model = transformer(positions="rotary")
    same = torch.full((1, 16), 3)
    _, cache = model.run_with_cache(same, names_filter="blocks.0.attn.hook_attn_scores")
    scores = cache["blocks.0.attn.hook_attn_scores"][0]
    for distance in range(16):
        diagonal = scores.diagonal(offset=-distance, dim1=-2, dim2=-1)
        torch.testing.assert_close(diagonal, diagonal[:, :1].expand_as(diagonal), rtol=1e-4, atol=1e-4)


def test_more_positions_than_n_ctx_are_refused() -> None:
    for positions in ("learned", "rotary"):
        with pytest.raises(MechdistillError, match=r"17 positions exceed n_ctx=16"):
            transformer(positions=positions)(torch.zeros(1, 17, dtype=torch.long))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_heads": 4, "n_kv_heads": 3}, "n_kv_heads=3: must divide n_heads=4"),
        ({"positions": "rotary", "d_head": 5}, "positions=rotary: .*even, not 5"),
        ({"n_kv_heads": 0}, "n_kv_heads=0"),
        ({"tied": 1}, "tied=1"),
        ({"norm": "batchnorm"}, "norm='batchnorm'"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(options: dict, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        ModelConfig(**options)
    assert re.search(message, problem(error.value))
