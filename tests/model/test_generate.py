from collections.abc import Iterator

import pytest
import torch
from scipy import stats
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram, Transformer
from tests.benchmarks.reference import uncached_sampler
from tests.helpers import transformer
from tests.model.options import COVER, label

TOKENS = torch.randint(0, 12, (3, 16), generator=torch.Generator().manual_seed(1))
CHUNKS = {
    "one by one": [1] * 16,
    "a prompt, then one by one": [6] + [1] * 10,
    "in chunks": [3, 1, 5, 4, 3],
    "at once": [16],
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def in_chunks(model: Transformer, lengths: list[int]) -> Iterator[tuple[int, Tensor]]:
    """(first position, logits) of each chunk, read through one cache."""
    cache, start = model.kv_cache(len(TOKENS)), 0
    for length in lengths:
        yield start, model(TOKENS[:, start : start + length], cache=cache)
        start += length
        assert cache.length == start


@pytest.mark.parametrize("lengths", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize("options", COVER, ids=label)
def test_cached_logits_equal_uncached(options: dict, lengths: list[int]) -> None:
    model = transformer(**options)
    if model.config.norm == "none":  # nothing keeps the stream small there, and large logits are ill-conditioned
        for parameter in model.parameters():
            parameter.mul_(0.5)
    cached = torch.cat([logits for _, logits in in_chunks(model, lengths)], dim=1)
    torch.testing.assert_close(cached, model(TOKENS), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", COVER, ids=label)
def test_hooks_see_the_new_positions_and_edit_them(options: dict) -> None:
    """Patterns of all sources, and the same logits as the uncached pass with the same edit, on the explicit path."""
    model = transformer(**options).double()
    seen: list[Tensor] = []

    def keep(pattern: Tensor, hook: object) -> None:
        seen.append(pattern)

    def turn_off(z: Tensor, hook: object) -> None:
        z[:, :, 1] = 0

    edit = ("blocks.0.attn.hook_z", turn_off)
    with model.hooks(fwd_hooks=[edit, ("blocks.1.attn.hook_pattern", keep)]):
        expected = model(TOKENS)
        whole = seen.pop()
        cached = [logits for _, logits in in_chunks(model, CHUNKS["in chunks"])]
    torch.testing.assert_close(torch.cat(cached, dim=1), expected)
    assert not torch.allclose(expected, model(TOKENS))
    start = 0
    for pattern, length in zip(seen, CHUNKS["in chunks"], strict=True):
        stop = start + length
        assert pattern.shape == (3, model.config.n_heads, length, stop)
        torch.testing.assert_close(pattern, whole[:, :, start:stop, :stop])
        start = stop


def test_every_hook_edits_a_cached_pass() -> None:
    model = transformer(attn_only=False, positions="rotary", n_kv_heads=1)
    for name in model.hook_dict:
        cache = model.kv_cache(3)
        model(TOKENS[:, :6], cache=cache)
        clean = model(TOKENS[:, 6:10], cache=cache)
        cache.length = 6

        def edit(x: Tensor, hook: object) -> Tensor:
            return x * torch.linspace(0.5, 1.5, x.shape[-1])

        with model.hooks(fwd_hooks=[(name, edit)]):
            assert not torch.allclose(model(TOKENS[:, 6:10], cache=cache), clean, atol=1e-4), name


def test_a_pass_that_raises_can_be_repeated() -> None:
    model = transformer()
    cache = model.kv_cache(3)
    model(TOKENS[:, :6], cache=cache)

    def fail(x: Tensor, hook: object) -> None:
        raise RuntimeError("on purpose")

    with (
        pytest.raises(RuntimeError, match="on purpose"),
        model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", fail)]),
    ):
        model(TOKENS[:, 6:9], cache=cache)
    assert cache.length == 6
    torch.testing.assert_close(model(TOKENS[:, 6:], cache=cache), model(TOKENS)[:, 6:], rtol=1e-4, atol=1e-5)


def test_a_cache_refuses_what_it_cannot_hold() -> None:
    model = transformer()
    cache = model.kv_cache(3, capacity=8)
    with pytest.raises(MechdistillError, match="holds 3 sequences, not 2"):
        model(TOKENS[:2], cache=cache)
    with pytest.raises(MechdistillError, match="capacity of 8"):
        model(TOKENS[:, :9], cache=cache)
    with pytest.raises(MechdistillError, match="no_grad"):
        model.requires_grad_(True)(TOKENS[:, :4], cache=cache)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("options", COVER, ids=label)
def test_generation_equals_the_uncached_samplers(options: dict, temperature: float) -> None:
    model = transformer(**options).double()
    ours = model.generate(TOKENS[:, :4], 12, temperature=temperature, generator=seeded())
    theirs = uncached_sampler(model, TOKENS[:, :4], 12, temperature=temperature, generator=seeded())
    assert torch.equal(ours, theirs)
    assert torch.equal(ours[:, :4], TOKENS[:, :4])


def test_a_hook_acts_on_generation_as_without_a_cache() -> None:
    model = transformer().double()

    def turn_off(z: Tensor, hook: object) -> None:
        z[:, :, 0] = 0

    plain = model.generate(TOKENS[:, :2], 14, generator=seeded())
    with model.hooks(fwd_hooks=[("blocks.1.attn.hook_z", turn_off)]):
        ours = model.generate(TOKENS[:, :2], 14, generator=seeded())
        theirs = uncached_sampler(model, TOKENS[:, :2], 14, temperature=1.0, generator=seeded())
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("kind", ["transformer", "bigram"])
def test_sampled_frequencies_are_the_models_law(kind: str, temperature: float) -> None:
    """χ² of the second new token given the first, so that the cached step is part of what is tested."""
    if kind == "transformer":
        model: Transformer | Bigram = transformer(n_layers=1, d_vocab=5, seed=3)
        for parameter in model.parameters():
            parameter.mul_(0.6)
    else:
        model = Bigram(d_vocab=5, n_ctx=16).requires_grad_(False)
        model.table.normal_(generator=seeded(3))
    prompt = torch.tensor([[1, 4, 0]])
    draws = model.generate(prompt.expand(20_000, -1), 2, temperature=temperature, generator=seeded(4))
    first = torch.bincount(draws[:, 3], minlength=5)
    law = (model(prompt)[0, -1] / temperature).double().softmax(-1)
    assert stats.chisquare(first, law * first.sum()).pvalue > 1e-3
    for token in range(5):
        chosen = draws[draws[:, 3] == token]
        if len(chosen) < 200:
            continue
        law = (model(chosen[:1, :4])[0, -1] / temperature).double().softmax(-1)
        counts = torch.bincount(chosen[:, 4], minlength=5)
        assert stats.chisquare(counts, law * counts.sum()).pvalue > 1e-3, token


def test_temperature_zero_is_the_limit_of_small_temperatures() -> None:
    for model in (transformer(), Bigram(d_vocab=12, n_ctx=16).requires_grad_(False)):
        if isinstance(model, Bigram):
            model.table.normal_(generator=seeded(3))
        greedy = model.generate(TOKENS[:, :3], 13, temperature=0.0, generator=seeded(1))
        assert torch.equal(greedy, model.generate(TOKENS[:, :3], 13, temperature=1e-30, generator=seeded(2)))
        assert torch.equal(greedy[:, 3:], model(greedy)[:, 2:-1].argmax(-1))


def test_the_generator_alone_decides_the_draws() -> None:
    model = transformer()
    once, again, other = (model.generate(TOKENS[:, :1], 15, generator=seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    state = torch.get_rng_state()
    model.generate(TOKENS[:, :1], 15, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.generate(TOKENS, 0, generator=seeded()), TOKENS)


def test_generation_keeps_no_gradients_and_leaves_no_hooks() -> None:
    model = transformer().requires_grad_(True)
    model.generate(TOKENS[:, :1], 4, generator=seeded())
    assert not any(hook.has_hooks() for hook in model.hook_points())


@pytest.mark.parametrize(
    ("prompts", "max_new_tokens", "temperature", "message"),
    [
        (TOKENS, 1, 1.0, "max_new_tokens=1: exceeds, with 16 prompt tokens, n_ctx=16; ask for at most 0"),
        (TOKENS[:, :4], 13, 1.0, "at most 12"),
        (TOKENS[:, :4], -1, 1.0, "max_new_tokens=-1"),
        (TOKENS[:, :0], 1, 1.0, "not empty"),
        (TOKENS[:, :4], 1, -0.1, "temperature=-0.1"),
        (TOKENS[:, :4], 1, float("nan"), "temperature=nan"),
        (TOKENS[:, :4], 1, float("inf"), "temperature=inf"),
    ],
)
def test_what_cannot_be_generated_is_refused(
    prompts: Tensor, max_new_tokens: int, temperature: float, message: str
) -> None:
    for model in (transformer(), Bigram(d_vocab=12, n_ctx=16)):
        with pytest.raises(MechdistillError, match=message):
            model.generate(prompts, max_new_tokens, temperature=temperature, generator=seeded())
