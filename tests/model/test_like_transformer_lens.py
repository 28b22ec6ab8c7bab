"""What TransformerLens users type, typed at ours and at the bridge: the same answers."""

import pytest
import torch
import torch.nn.functional as F

from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram, to_transformer_lens
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


@pytest.mark.filterwarnings("ignore:A forward hook edited hook_scale")  # what the bridge says of its RMSNorm
@pytest.mark.parametrize(
    "options",
    [
        {"norm": "layernorm", "attn_only": False, "biases": True},
        {"norm": "rmsnorm", "positions": "rotary", "n_heads": 4, "n_kv_heads": 2},
        {"norm": "none", "attn_only": False},
    ],
    ids=lambda options: options["norm"],
)
def test_streams_are_normalised_as_the_bridges_are(options: dict) -> None:
    """Every decomposition with apply_ln=True, at the end and inside, equals that of the exported model's cache."""
    model = transformer(**options)
    bridge = to_transformer_lens(model)
    caches = model.run_with_cache(TOKENS)[1], bridge.run_with_cache(TOKENS)[1]
    for what in (
        lambda cache: cache.decompose_resid(apply_ln=True),
        lambda cache: cache.decompose_resid(layer=1, apply_ln=True, pos_slice=-1),
        lambda cache: cache.stack_head_results(apply_ln=True, incl_remainder=True),
        lambda cache: cache.accumulated_resid(apply_ln=True),
        lambda cache: cache.accumulated_resid(layer=1, apply_ln=True),
        lambda cache: cache.get_full_resid_decomposition(apply_ln=True, expand_neurons=False),
        lambda cache: cache.logit_attrs(cache.stack_head_results(pos_slice=-1), tokens=TOKENS[:, 0], pos_slice=-1),
    ):
        ours, theirs = map(what, caches)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if not options.get("attn_only", True):
        ours, theirs = (cache.decompose_resid(layer=1, mlp_input=True, apply_ln=True) for cache in caches)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    names = {name for name in bridge.hook_dict if name.endswith(("hook_scale", "hook_normalized"))}
    assert names == {name for name in model.hook_dict if name.endswith(("hook_scale", "hook_normalized"))}
    for name in names:
        torch.testing.assert_close(caches[0][name], caches[1][name], rtol=1e-4, atol=1e-5)

        def edit(x, hook):
            return x * torch.linspace(0.5, 1.5, x.shape[-1]) + 0.1

        ours, theirs = (m.run_with_hooks(TOKENS, fwd_hooks=[(name, edit)]) for m in (model, bridge))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["transformer", "bigram"])
def test_one_sequence_or_a_batch_in_any_container(kind: str) -> None:
    model = transformer() if kind == "transformer" else Bigram(d_vocab=12, n_ctx=16)
    expected, row = model(TOKENS), TOKENS[0]
    for same in (TOKENS.int(), TOKENS.to(torch.uint8), TOKENS.numpy(), TOKENS.tolist(), [row, TOKENS[1].numpy()]):
        assert torch.equal(model(same), expected)
    for one in (row, row.tolist(), tuple(row), row.numpy().astype("uint16")):
        assert torch.equal(model(one), model(row[None]))
        assert torch.equal(
            model.run_with_hooks(one, fwd_hooks=[("hook_embed", lambda x, hook: None)]), model(row[None])
        )
        assert model.run_with_cache(one, remove_batch_dim=True)[1]["hook_embed"].ndim == 2
        assert model.generate(one, 2, temperature=0.0).shape == (1, 12)
    assert model(TOKENS, return_type=None) is None
    assert model.run_with_cache(TOKENS, return_type=None)[1]["hook_embed"].shape[:2] == (2, 10)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([0, 12], "token 12: must be between 0 and vocab - 1 = 11"),
        (torch.tensor([[3, -1]]), "token -1: must be between 0"),
        ([[0, 1], [2]], "every sequence must have the same length"),
        ([[[0, 1]]], r"tokens of shape \[1, 1, 2\]: must be \[batch, pos\]"),
        ([], "not empty"),
        (torch.zeros(2, 0, dtype=torch.long), "not empty"),
        ([0, 1.7], "token 1.7: must be a whole number"),
        ([0, True], "token True: must be a whole number"),
        ([0, "1"], "token '1': must be a whole number"),
        ([0, 2**70], "must"),
        (torch.tensor([0.0, 1.0]), "tokens of torch.float32"),
        (torch.tensor([True]), "tokens of torch.bool"),
        (torch.tensor(3), r"tokens of shape \[\]: must be"),
        ("copy this", "tokens 'copy this': must be a list or a tensor"),
        (None, "tokens None: must be"),
    ],
)
def test_what_are_no_tokens_is_named(tokens: object, says: str) -> None:
    for model in (transformer(), Bigram(d_vocab=12, n_ctx=16)):
        for use in (model, model.run_with_cache, model.run_with_hooks, model.generate):
            with pytest.raises(MechdistillError, match=says):
                use(tokens)
        assert not any(hook.has_hooks() for hook in model.hook_points())


def test_loss_and_hooks_as_they_are_typed() -> None:
    model = transformer()
    logits, loss = model(TOKENS, return_type="both")
    expected = F.cross_entropy(logits[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(model(TOKENS, return_type="loss"), expected)
    with pytest.raises(MechdistillError, match="must be logits, loss, both or None"):
        model(TOKENS, return_type="logit")
    with pytest.raises(MechdistillError, match="a sequence of one token has no next one"):
        model([1], "loss")
    with pytest.raises(MechdistillError, match="remove_batch_dim=True: the batch has 2 sequences"):
        model.run_with_cache(TOKENS, remove_batch_dim=True)

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
