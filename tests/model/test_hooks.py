import gc

import pytest
import torch

from mechdistill.errors import MechdistillError
from tests.helpers import transformer

TOKENS = torch.randint(0, 12, (2, 16), generator=torch.Generator().manual_seed(2))


def all_hooks() -> list[str]:
    return list(transformer(attn_only=False).hook_dict)


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
    assert names == set(all_hooks())


@pytest.mark.parametrize("name", all_hooks())
@pytest.mark.parametrize("in_place", [False, True])
def test_every_hook_fires_and_its_edit_changes_the_logits(name: str, in_place: bool) -> None:
    model = transformer(attn_only=False)
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


def test_listening_to_everything_changes_nothing() -> None:
    model = transformer(attn_only=False)
    logits, cache = model.run_with_cache(TOKENS)
    torch.testing.assert_close(logits, model(TOKENS), rtol=1e-4, atol=1e-5)
    assert set(cache) == set(model.hook_dict)


def test_cached_values_are_what_their_names_say() -> None:
    model = transformer(attn_only=False)
    _, cache = model.run_with_cache(TOKENS)
    for layer, block in enumerate(model.blocks):
        pre, attn = f"blocks.{layer}.hook_", f"blocks.{layer}.attn.hook_"
        close = torch.testing.assert_close
        close(cache[attn + "attn_scores"].softmax(-1), cache[attn + "pattern"])
        z = torch.einsum("bhqs,bshd->bqhd", cache[attn + "pattern"], cache[attn + "v"])
        close(z, cache[attn + "z"])
        close(torch.einsum("bphd,hdm->bphm", z, block.attn.W_O), cache[attn + "result"])
        close(cache[attn + "result"].sum(2), cache[pre + "attn_out"])
        close(cache[pre + "resid_pre"] + cache[pre + "attn_out"], cache[pre + "resid_mid"])
        close(cache[pre + "resid_mid"] + cache[pre + "mlp_out"], cache[pre + "resid_post"])
        close(cache[pre + "q_input"], cache[pre + "resid_pre"][:, :, None].expand_as(cache[pre + "q_input"]))
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
