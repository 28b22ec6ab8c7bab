import math

import pytest
import torch
import torch.nn.functional as F

from mechdistill.config import ModelConfig
from mechdistill.model import build
from tests.helpers import transformer

KINDS = [
    {"attn_only": True},
    {"attn_only": False, "act": "gelu"},
    {"attn_only": False, "act": "relu", "d_head": 4},
]


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 12, (3, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", KINDS)
def test_both_attention_paths_agree(kind: dict, tokens: torch.Tensor) -> None:
    model = transformer(**kind)
    fused = model(tokens)
    listened = []
    explicit = model.run_with_hooks(
        tokens, fwd_hooks=[("blocks.1.attn.hook_pattern", lambda p, hook: listened.append(p))]
    )
    assert listened, "the explicit path did not run"
    torch.testing.assert_close(explicit, fused, rtol=1e-5, atol=1e-6)


def test_both_paths_have_the_same_gradients(tokens: torch.Tensor) -> None:
    model = transformer().requires_grad_(True)
    gradients = []
    for hooks in ([], [("blocks.0.attn.hook_attn_scores", lambda s, hook: None)]):
        model.zero_grad()
        F.cross_entropy(model.run_with_hooks(tokens, fwd_hooks=hooks).flatten(0, 1), tokens.flatten()).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_equals_the_formula(kind: dict, tokens: torch.Tensor) -> None:
    """Written out head by head, in float64, from the weights under their public names."""
    model = transformer(**kind).double()

    def norm(x: torch.Tensor, ln: torch.nn.LayerNorm) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * ln.weight + ln.bias

    x = model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
    for block in model.blocks:
        inputs, attention = norm(x, block.ln1), block.attn
        for head in range(model.config.n_heads):
            q, k, v = (inputs @ w[head] for w in (attention.W_Q, attention.W_K, attention.W_V))
            scores = q @ k.mT / math.sqrt(model.config.head_width)
            future = torch.ones(scores.shape[-2:]).triu(1).bool()
            x = x + scores.masked_fill(future, -math.inf).softmax(-1) @ v @ attention.W_O[head]
        if block.mlp is not None:
            act = {"gelu": F.gelu, "relu": F.relu}[model.config.act]
            x = x + act(norm(x, block.ln2) @ block.mlp.W_in) @ block.mlp.W_out
    torch.testing.assert_close(model(tokens), norm(x, model.ln_final) @ model.W_U)


def test_nothing_looks_ahead(tokens: torch.Tensor) -> None:
    model = transformer()
    changed = tokens.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % 12
    torch.testing.assert_close(model(changed)[:, :10], model(tokens)[:, :10])
    assert not torch.allclose(model(changed)[:, 10:], model(tokens)[:, 10:])


def test_same_seed_same_weights_and_another_seed_others() -> None:
    config = ModelConfig(d_model=16, n_heads=2, attn_only=False)
    models = [build(config, d_vocab=12, n_ctx=16, init_seed=seed) for seed in (5, 5, 6)]
    first, again, other = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    matrices = [(n, p) for n, p in models[0].named_parameters() if p.ndim > 1]
    for name, parameter in matrices:
        expected = 0.02 / 2 if name.endswith(("W_O", "W_out")) else 0.02
        assert parameter.std().item() == pytest.approx(expected, rel=0.25), name
