import gc

import pytest
import torch

from mechdistill.errors import MechdistillError
from tests.helpers import transformer
from tests.model.options import COVER, label

TOKENS = torch.randint(0, 12, (2, 16), generator=torch.Generator().manual_seed(2))


DEFAULT_MLP = {"attn_only": False}


def all_hooks() -> list[str]:
    return list(transformer(**DEFAULT_MLP).hook_dict)


def every_hook() -> list[tuple[dict, str]]:
    return [(options, name) for options in (DEFAULT_MLP, *COVER) for name in transformer(**options).hook_dict]


def test_the_names_that_users_type_are_there() -> None:
    names = {"hook_embed", "hook_pos_embed"}
    for layer in range(2):
        block = (
            "resid_pre",
            "resid_mid",
            "resid_post",
            "attn_out",
            "mlp_out",
            "q_input",
            "k_input",
            "v_input",
        )
        names |= {f"blocks.{layer}.hook_{name}" for name in block}
        names |= {f"blocks.{layer}.attn.hook_{n}" for n in ("q", "k", "v", "z", "pattern", "attn_scores", "result")}
        names |= {f"blocks.{layer}.mlp.hook_{name}" for name in ("pre", "post")}
        names |= {f"blocks.{layer}.{ln}.hook_{name}" for ln in ("ln1", "ln2") for name in ("scale", "normalized")}
    names |= {"ln_final.hook_scale", "ln_final.hook_normalized"}
    assert names == set(all_hooks())


def test_options_bring_their_own_names_and_take_others_away() -> None:
    rotary = set(transformer(positions="rotary").hook_dict)
    assert "hook_pos_embed" not in rotary
    assert rotary >= {"blocks.1.attn.hook_rot_q", "blocks.1.attn.hook_rot_k"}
    assert "blocks.1.mlp.hook_pre_linear" in transformer(attn_only=False, act="swiglu").hook_dict


def test_grouped_heads_have_the_shapes_of_their_names() -> None:
    model = transformer(n_heads=4, n_kv_heads=2, attn_only=False, biases=True)
    _, cache = model.run_with_cache(TOKENS)
    for name in ("q_input", "k_input", "v_input"):
        assert cache[f"blocks.0.hook_{name}"].shape == (2, 16, 4 if name == "q_input" else 2, 16)
    for name in ("q", "k", "v", "z"):
        assert cache[f"blocks.0.attn.hook_{name}"].shape == (2, 16, 2 if name in "kv" else 4, 4)
    assert cache["blocks.0.attn.hook_pattern"].shape == (2, 4, 16, 16)
    assert cache["blocks.0.attn.hook_result"].shape == (2, 16, 4, 16)


@pytest.mark.parametrize(
    ("options", "name"), every_hook(), ids=lambda part: part if isinstance(part, str) else label(part)
)
@pytest.mark.parametrize("in_place", [False, True])
def test_every_hook_fires_and_its_edit_changes_the_logits(options: dict, name: str, in_place: bool) -> None:
    model = transformer(**options)
    before, fired = model(TOKENS), []

    def edit(x: torch.Tensor, hook: object) -> torch.Tensor | None:
        fired.append(tuple(x.shape))
        # not uniform: a constant added to attention scores changes nothing by softmax's invariance
        change = torch.linspace(0.5, 1.5, x.shape[-1]) * torch.linspace(1, 2, x.shape[1])[:, None].expand(
            x.shape[1], 1
        ).reshape(1, -1, *([1] * (x.ndim - 2)))
        if in_place:
            x *= change
            return None
        return x * change

    after = model.run_with_hooks(TOKENS, fwd_hooks=[(name, edit)])
    assert len(fired) == 1
    assert not torch.allclose(before, after, atol=1e-4)
    assert torch.equal(model(TOKENS), before), "the hook outlived its context"


@pytest.mark.parametrize("options", [DEFAULT_MLP, *COVER], ids=label)
def test_listening_to_everything_changes_nothing(options: dict) -> None:
    model = transformer(**options)
    logits, cache = model.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, model(TOKENS), rtol=1e-4, atol=1e-5)
    assert set(cache) == set(model.hook_dict)


@pytest.mark.parametrize("options", [DEFAULT_MLP, *COVER], ids=label)
def test_cached_values_are_what_their_names_say(options: dict) -> None:
    model = transformer(**options)
    _, cache = model.run_with_cache(TOKENS)
    group = model.config.n_heads // model.config.kv_heads
    close = torch.testing.assert_close
    for layer, block in enumerate(model.blocks):
        pre, attn = f"blocks.{layer}.hook_", f"blocks.{layer}.attn.hook_"
        for part, weight, bias in (
            ("q", block.attn.W_Q, block.attn.b_Q),
            ("k", block.attn.W_K, block.attn.b_K),
            ("v", block.attn.W_V, block.attn.b_V),
        ):
            read = torch.einsum("bphm,hmd->bphd", block.ln1(cache[pre + part + "_input"]), weight)
            close(cache[attn + part], read if bias is None else read + bias)
            stream = cache[pre + "resid_pre"][:, :, None].expand_as(cache[pre + part + "_input"])
            close(cache[pre + part + "_input"], stream)
        rotated = "rot_" if model.config.positions == "rotary" else ""
        k, v = (cache[attn + name].repeat_interleave(group, 2) for name in (rotated + "k", "v"))
        scores = torch.einsum("bqhd,bshd->bhqs", cache[attn + rotated + "q"], k) / model.config.head_width**0.5
        close(cache[attn + "attn_scores"].tril(), scores.tril(), rtol=1e-4, atol=1e-5)
        close(cache[attn + "attn_scores"].softmax(-1), cache[attn + "pattern"])
        z = torch.einsum("bhqs,bshd->bqhd", cache[attn + "pattern"], v)
        close(z, cache[attn + "z"])
        close(torch.einsum("bphd,hdm->bphm", z, block.attn.W_O), cache[attn + "result"], rtol=1e-4, atol=1e-5)
        b_O = 0 if block.attn.b_O is None else block.attn.b_O
        close(cache[attn + "result"].sum(2) + b_O, cache[pre + "attn_out"])
        middle = cache[pre + "resid_pre"] + cache[pre + "attn_out"]
        if block.mlp is not None:
            close(middle, cache[pre + "resid_mid"])
            middle = middle + cache[pre + "mlp_out"]
        close(middle, cache[pre + "resid_post"])
    close(cache["blocks.1.hook_resid_pre"], cache["blocks.0.hook_resid_post"])


def test_an_edit_in_place_leaves_the_cache_and_the_rest_alone() -> None:
    model = transformer()
    _, clean = model.run_with_cache(TOKENS)
    name = "blocks.0.hook_resid_post"
    seen: dict[str, torch.Tensor] = {}

    def remember(x: torch.Tensor, hook: object) -> None:
        seen["before"] = x

    def wreck(x: torch.Tensor, hook: object) -> None:
        x.fill_(7.0)

    tokens, embedding = TOKENS.clone(), model.W_E.clone()
    hooks = [(name, remember), (name, wreck), ("hook_embed", wreck), ("hook_pos_embed", wreck)]
    model.run_with_hooks(tokens, fwd_hooks=hooks)
    assert not (seen["before"] == 7).any(), "an earlier hook's tensor was overwritten"
    assert torch.equal(tokens, TOKENS)
    assert torch.equal(model.W_E, embedding)
    with model.hooks(fwd_hooks=[(name, wreck)]):
        _, cache = model.run_with_cache(TOKENS)
    torch.testing.assert_close(cache["blocks.0.hook_attn_out"], clean["blocks.0.hook_attn_out"])
    assert (cache["blocks.1.hook_resid_pre"] == 7).all()


def test_hooks_are_gone_after_an_exception_and_the_users_own_stay() -> None:
    model = transformer()
    calls = []
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: calls.append("mine"))

    def fail(x: torch.Tensor, hook: object) -> None:
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        model.run_with_hooks(TOKENS, fwd_hooks=[("blocks.0.attn.hook_z", fail)])
    model(TOKENS)
    assert calls == ["mine", "mine"]
    model.reset_hooks()
    model(TOKENS)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("blocks.0.attn.hook_zz", "blocks.0.attn.hook_z"),
        ("blocks.9.hook_resid_pre", "did you mean"),
        ("attn", "hook"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, hint: str) -> None:
    model = transformer()
    for use in (
        lambda: model.run_with_hooks(TOKENS, fwd_hooks=[(name, lambda x, hook: None)]),
        lambda: model.add_hook(name, lambda x, hook: None),
        lambda: model.run_with_cache(TOKENS, names_filter=name),
        lambda: model.run_with_cache(TOKENS, names_filter=["blocks.0.attn.hook_z", name]),
        lambda: model.add_caching_hooks(name),
    ):
        with pytest.raises(MechdistillError, match="no such hook point") as error:
            use()
        assert hint in str(error.value)
    model(TOKENS)
    assert not any(hook.has_hooks() for hook in model.hook_points())


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
@pytest.mark.parametrize("what", ["scale", "normalized"])
def test_an_edit_at_a_norm_means_the_same_to_heads_with_inputs_of_their_own(norm: str, what: str) -> None:
    """Each head's own norm takes over what is changed of the shared one, in value and in gradient."""
    model = transformer(norm=norm, attn_only=False).double()
    edit = (f"blocks.1.ln1.hook_{what}", lambda x, hook: x * torch.linspace(0.5, 1.5, 16)[None, :, None])
    listen = [(f"blocks.1.hook_{part}_input", lambda x, hook: None) for part in "qkv"]
    together = model.run_with_hooks(TOKENS, fwd_hooks=[edit])
    torch.testing.assert_close(model.run_with_hooks(TOKENS, fwd_hooks=[edit, *listen]), together)
    assert not torch.allclose(model(TOKENS), together)
    one_head = (listen[0][0], lambda x, hook: x * (torch.arange(2) == 0)[:, None])
    normalized = model.run_with_cache(TOKENS)[1]["blocks.1.attn.hook_q"]
    with model.hooks(fwd_hooks=[one_head, edit]):
        edited = model.run_with_cache(TOKENS)[1]["blocks.1.attn.hook_q"]
    assert not torch.allclose(edited[:, :, 1], normalized[:, :, 1])
    gradients = []
    for hooks in ([edit], [edit, *listen]):
        seen: list[torch.Tensor] = []
        model.requires_grad_(True)
        backward = [(edit[0], lambda g, hook, seen=seen: seen.append(g.clone()))]
        with model.hooks(fwd_hooks=hooks, bwd_hooks=backward):
            model(TOKENS, "loss").backward()
        gradients.append(seen[0])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[:1], r"returned shape \[1, 16, 2, 8\]; must be \[2, 16, 2, 8\]"),
        (lambda x: x.mean(), r"returned shape \[\]; must be"),
        (lambda x: x.double(), "returned dtype torch.float64; must be torch.float32"),
        (lambda x: x.to("meta"), "returned device meta; must be cpu"),
        (lambda x: x.tolist(), "returned list; must be a tensor or None"),
        (lambda x: 0.0, "returned float; must be a tensor or None"),
        (lambda x: [x.unsqueeze_(0), None][1], r"returned shape \[1, 2, 16, 2, 8\]"),
    ],
)
def test_what_would_be_broadcast_or_cast_is_refused_by_the_hooks_name(change: object, says: str) -> None:
    model = transformer().requires_grad_(True)
    name = "blocks.1.attn.hook_z"
    with pytest.raises(MechdistillError, match=f"hook at {name}: {says}"):
        model.run_with_hooks(TOKENS, fwd_hooks=[(name, lambda x, hook: change(x))])
    if "1, 2, 16" not in says:  # a gradient has no copy to spoil
        with model.hooks(bwd_hooks=[(name, lambda g, hook: change(g))]), pytest.raises(MechdistillError, match=says):
            model(TOKENS, "loss").backward()
    assert not any(hook.has_hooks() for hook in model.hook_points())


def test_a_filter_that_matches_nothing_is_refused() -> None:
    model = transformer()
    for use in (
        lambda: model.run_with_cache(TOKENS, names_filter=lambda n: n.endswith("hook_patern")),
        lambda: model.run_with_hooks(TOKENS, fwd_hooks=[(lambda n: "mlp" in n, lambda x, hook: None)]),
        lambda: model.add_hook(lambda n: False, lambda x, hook: None),
    ):
        with pytest.raises(MechdistillError, match="matches none"):
            use()


def test_gradients_flow_to_a_backward_hook() -> None:
    model = transformer().requires_grad_(True)
    seen = []
    model.add_hook("blocks.0.hook_resid_post", lambda g, hook: seen.append(g.abs().sum().item()), dir="bwd")
    model(TOKENS).logsumexp(-1).sum().backward()
    assert len(seen) == 1
    assert seen[0] > 0


def test_memory_is_flat_over_many_cached_runs() -> None:
    model = transformer(attn_only=False)

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects())

    model.run_with_cache(TOKENS)
    before = tensors()
    for _ in range(1000):
        model.run_with_cache(TOKENS, names_filter="blocks.0.attn.hook_z")
    assert tensors() <= before + 2
    assert all(len(hook._forward_hooks) == 0 for hook in model.hook_points())
