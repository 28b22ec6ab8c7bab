"""Clamped heads, held against patterns found by counting and put in by hooks."""

import pytest
import torch
from torch import Tensor

from mechdistill.config import ModelConfig
from mechdistill.errors import MechdistillError
from mechdistill.model import Transformer, to_transformer_lens, to_transformers
from mechdistill.model._clamp import ideal_pattern
from tests.helpers import induction_network, transformer

PATTERNS = ("previous-token", "two-back", "induction", "duplicate-token")


def source(pattern: str, tokens: list[int], q: int) -> int:
    if pattern == "previous-token":
        return max(q - 1, 0)
    if pattern == "two-back":
        return q - 2 if q >= 2 else q
    copies = [s for s in range(q) if tokens[s] == tokens[q]]
    if not copies:
        return 0
    return copies[-1] + (pattern == "induction")


def by_counting(pattern: str, tokens: Tensor) -> Tensor:
    ideal = torch.zeros(*tokens.shape, tokens.shape[1])
    for b, row in enumerate(tokens.tolist()):
        for q in range(len(row)):
            ideal[b, q, source(pattern, row, q)] = 1
    return ideal


def some_tokens(batch: int = 3, pos: int = 16) -> Tensor:
    return torch.randint(12, (batch, pos), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_patterns(pattern: str) -> None:
    tokens = some_tokens(20)
    torch.testing.assert_close(ideal_pattern(pattern, tokens), by_counting(pattern, tokens))


def clamped(*clamps: tuple[str, str], **changes: object) -> Transformer:
    return transformer(clamps=[{"head": head, "pattern": pattern} for head, pattern in clamps], **changes)


@pytest.mark.parametrize("changes", [{}, {"n_kv_heads": 1, "positions": "rotary", "attn_only": False}])
def test_a_clamp_is_what_a_hook_would_put_there(changes: dict) -> None:
    tokens = some_tokens()
    model, free = clamped(("L0H1", "previous-token"), ("L1H0", "induction"), **changes), transformer(**changes)

    def put(head: int, pattern: str):
        def hook(pattern_before: Tensor, hook: object) -> Tensor:
            pattern_before[:, head] = by_counting(pattern, tokens)
            return pattern_before

        return hook

    hooks = [
        (f"blocks.{i}.attn.hook_pattern", put(*what)) for i, what in ((0, (1, "previous-token")), (1, (0, "induction")))
    ]
    torch.testing.assert_close(model(tokens), free.run_with_hooks(tokens, fwd_hooks=hooks))
    assert not torch.allclose(model(tokens), free(tokens), atol=1e-2)
    _, cache = model.run_with_cache(tokens)
    torch.testing.assert_close(cache["pattern", 1][:, 0], by_counting("induction", tokens))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_clamps_hold_while_sampling_position_by_position(pattern: str) -> None:
    model, tokens = clamped(("L0H0", pattern), ("L1H1", pattern)), some_tokens()
    cache = model.kv_cache(len(tokens))
    parts = [model(tokens[:, a:b], cache=cache) for a, b in ((0, 5), (5, 6), (6, 7), (7, 16))]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens), rtol=1e-5, atol=1e-5)


def test_a_clamp_at_the_pattern_that_a_head_has_changes_nothing() -> None:
    tokens = some_tokens()
    free = induction_network(12, 16)
    same = induction_network(12, 16, clamps=[{"head": "L0H0", "pattern": "previous-token"}])
    wrong = induction_network(12, 16, clamps=[{"head": "L0H0", "pattern": "two-back"}])
    torch.testing.assert_close(same(tokens), free(tokens), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wrong(tokens), free(tokens), atol=0.1)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"clamps": [{"head": "L2H0", "pattern": "induction"}]}, "L2H0 must be a head of the network, L0H0 to L1H1"),
        ({"clamps": [{"head": "L0H2", "pattern": "induction"}]}, "L0H2 must be a head"),
        ({"clamps": [{"head": "L0H0", "pattern": "induction"}, {"head": "L00H0", "pattern": "two-back"}]}, "has two"),
        ({"kind": "bigram", "clamps": [{"head": "L0H0", "pattern": "induction"}]}, "no effect with kind=bigram"),
        ({"clamps": [{"head": "L0H0", "pattern": "sharp"}]}, "previous-token"),
        ({"clamps": [{"head": "H0", "pattern": "induction"}]}, "head"),
    ],
)
def test_a_clamp_that_holds_nothing_is_refused(model: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({"n_layers": 2, "d_model": 16, "n_heads": 2, **model})


def test_no_export_drops_clamps_in_silence() -> None:
    model = clamped(("L0H0", "two-back"))
    for export in (to_transformer_lens, to_transformers):
        with pytest.raises(MechdistillError, match=r"model.clamps: L0H0 is clamped"):
            export(model)
