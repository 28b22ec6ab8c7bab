import pytest
import torch

from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram, to_transformer_lens
from tests.helpers import transformer


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(
    "kind",
    [
        {"attn_only": True},
        {"attn_only": True, "d_head": 5},
        {"attn_only": False},
        {"attn_only": False, "act": "relu", "d_mlp": 24},
    ],
)
def test_logits_equal_the_bridges(kind: dict, n_layers: int) -> None:
    tokens = torch.randint(0, 12, (4, 16), generator=torch.Generator().manual_seed(3))
    # in float32 both are a few 1e-7 from the truth; in float64 only an error of ours could show
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-13)):
        model = transformer(n_layers=n_layers, **kind).to(dtype)
        ours, theirs = model(tokens), to_transformer_lens(model)(tokens)
        assert theirs.dtype == dtype
        assert ((ours - theirs).norm() / ours.norm()).item() <= tolerance


def test_patterns_and_head_outputs_equal_the_bridges() -> None:
    model = transformer()
    tokens = torch.randint(0, 12, (4, 16), generator=torch.Generator().manual_seed(3))
    _, ours = model.run_with_cache(tokens)
    _, theirs = to_transformer_lens(model).run_with_cache(tokens)
    for layer in range(2):
        for name in (f"blocks.{layer}.attn.hook_pattern", f"blocks.{layer}.hook_resid_post"):
            torch.testing.assert_close(ours[name], theirs[name].reshape(ours[name].shape), rtol=1e-5, atol=1e-5)


def test_the_export_is_a_copy() -> None:
    model = transformer()
    bridge = to_transformer_lens(model)
    tokens = torch.arange(12)[None]
    before = bridge(tokens)
    with torch.no_grad():
        model.W_E.add_(1.0)
    torch.testing.assert_close(bridge(tokens), before)


def test_the_bigram_table_is_refused() -> None:
    with pytest.raises(MechdistillError, match="bigram"):
        to_transformer_lens(Bigram(d_vocab=12, n_ctx=16))
