"""What TransformerLens users type, typed at ours and at the bridge: the same answers."""

import pytest
import torch
import torch.nn.functional as F

from mechdistill.errors import MechdistillError
from mechdistill.model import to_transformer_lens
from tests.helpers import transformer

TOKENS = torch.randint(0, 12, (2, 10), generator=torch.Generator().manual_seed(5))


def test_the_cache_takes_short_names() -> None:
    model = transformer(attn_only=False)
    bridge = to_transformer_lens(model)
    _, ours = model.run_with_cache(TOKENS)
    _, theirs = bridge.run_with_cache(TOKENS)
    for key in (("pattern", 0), ("resid_post", -1), ("z", 1), ("mlp_out", 0), ("embed",)):
        key = key if len(key) > 1 else key[0]
        torch.testing.assert_close(ours[key], theirs[key].reshape(ours[key].shape), rtol=1e-4, atol=1e-5)
    assert torch.equal(ours["pattern", 1], ours["blocks.1.attn.hook_pattern"])
    plain = model.run_with_cache(TOKENS, return_cache_object=False)[1]
    assert type(plain) is dict
    single = model.run_with_cache(TOKENS[:1], remove_batch_dim=True)[1]
    assert single["pattern", 0].shape == (2, 10, 10)


def test_accumulated_residuals_add_up() -> None:
    model = transformer()
    _, cache = model.run_with_cache(TOKENS)
    stack, labels = cache.accumulated_resid(return_labels=True)
    assert labels[-1] == "final_post"
    torch.testing.assert_close(stack[-1], cache["resid_post", -1])
    parts = cache.decompose_resid()
    torch.testing.assert_close(parts.sum(0), cache["resid_post", -1], rtol=1e-4, atol=1e-5)


def test_loss_and_hooks_as_they_are_typed() -> None:
    model = transformer()
    logits, loss = model(TOKENS, return_type="both")
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(model(TOKENS, return_type="loss"), expected)
    with pytest.raises(MechdistillError, match="must be logits, loss or both"):
        model(TOKENS, return_type="logit")

    def knock_out(z, hook):
        z[:, :, 1] = 0.0
        return z

    ablated = model.run_with_hooks(TOKENS, return_type="loss", fwd_hooks=[("blocks.1.attn.hook_z", knock_out)])
    assert ablated != loss
    with model.hooks(fwd_hooks=[(lambda name: name.endswith("hook_z"), knock_out)]):
        assert model(TOKENS, return_type="loss") != ablated


def test_weights_and_shape_under_their_names() -> None:
    model = transformer(n_kv_heads=1)
    assert (model.cfg.n_layers, model.cfg.n_heads, model.cfg.d_head, model.cfg.n_ctx) == (2, 2, 8, 16)
    assert model.W_Q.shape == (2, 2, 16, 8)
    assert model.W_K.shape == model.W_V.shape == (2, 1, 16, 8)
    assert model.W_O.shape == (2, 2, 8, 16)
    assert model.W_E.shape == (12, 16)
    assert model.W_U.shape == (16, 12)
    bridge = to_transformer_lens(transformer())
    torch.testing.assert_close(transformer().W_Q, bridge.W_Q)
    torch.testing.assert_close(transformer().W_O, bridge.W_O)
