"""What heads and layers say: parts that add up to the logits, and losses that are the model's own."""

import math

import pytest
import torch

from mechdistill.circuits import SCORES, HeadView, head_scores, probes
from mechdistill.laws import cross_entropy
from mechdistill.model import to_transformer_lens
from tests.helpers import induction_network, transformer, world

SHAPES = [
    {"attn_only": False, "biases": True},
    {"norm": "rmsnorm", "positions": "rotary", "n_heads": 4, "n_kv_heads": 2},
    {"norm": "none"},
]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_what_heads_add_and_the_rest_are_the_logits(changes: dict) -> None:
    model, sandbox = transformer(**changes), world()
    seen = probes(sandbox, 12, 16, torch.Generator().manual_seed(0))
    natural = seen.natural
    _, cache = model.run_with_cache(natural.tokens)
    final = cache["blocks.1.hook_resid_post"]
    norm = model.ln_final
    weight, bias = (getattr(norm, name, None) for name in ("weight", "bias"))
    centred = final - final.mean(-1, keepdim=True) if bias is not None else final
    scale = 1.0 if weight is None else (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    def logits(part: torch.Tensor) -> torch.Tensor:
        part = part - part.mean(-1, keepdim=True) if bias is not None else part
        return part / scale * (1 if weight is None else weight) @ model.W_U

    rest = cache["hook_embed"] + (cache["hook_pos_embed"] if model.W_pos is not None else 0)
    for block, name in zip(model.blocks, ("blocks.0", "blocks.1"), strict=True):
        rest = rest + (0 if block.mlp is None else cache[f"{name}.hook_mlp_out"])
        rest = rest + (0 if block.attn.b_O is None else block.attn.b_O)
    other = logits(rest) + (0 if bias is None else bias @ model.W_U)
    whole = model(natural.tokens)

    added = SCORES["direct-logit-attribution"].of(HeadView(model), seen).value
    by_sequence = []
    for b in range(12):
        found = []
        for q in (natural.occurrence[b] >= 2).nonzero().flatten().tolist():
            answer = int(natural.next_tokens[b, q])
            own, others = whole[b, q] - whole[b, q].mean(), other[b, q] - other[b, q].mean()
            found.append(float(own[answer] - others[answer]))
        if found:
            by_sequence.append(sum(found) / len(found))
    assert float(added.sum()) == pytest.approx(sum(by_sequence) / len(by_sequence), abs=1e-4)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_the_last_layer_s_lens_is_the_model_s_loss_and_context_is_worth_what_it_saves(changes: dict) -> None:
    model, sandbox = transformer(**changes), world()
    seen = probes(sandbox, 12, 16, torch.Generator().manual_seed(0))
    natural = seen.natural
    loss = cross_entropy(model(natural.tokens).log_softmax(-1), natural.next_tokens)
    for view in (HeadView(model), HeadView(to_transformer_lens(model)) if not changes.get("biases") else None):
        if view is None:
            continue
        lens = SCORES["logit-lens"].of(view, seen)
        means = [
            float(row[occurrence >= 2].mean())
            for row, occurrence in zip(loss, natural.occurrence, strict=True)
            if (occurrence >= 2).any()
        ]
        assert float(lens.value[-1]) == pytest.approx(sum(means) / len(means), abs=1e-4)
        assert lens.chance == math.log(12)
        oracle = natural.oracle_loss
        first, later = natural.occurrence == 1, natural.occurrence >= 2
        worth = (loss[first].mean() - loss[later].mean()) / (oracle[first].mean() - oracle[later].mean())
        assert float(SCORES["icl-score"].of(view, seen).value) == pytest.approx(float(worth), abs=1e-4)
        late = loss[:, -4:].mean() - loss[:, :4].mean()
        assert float(SCORES["late-minus-early"].of(view, seen).value) == pytest.approx(float(late), abs=1e-4)


def test_without_triggers_outputs_are_of_repeated_blocks() -> None:
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 0})
    table = head_scores(induction_network(24, 32), sandbox, torch.Generator().manual_seed(0), sequences=8)
    by_layer = table[table["metric"] == "logit-lens"].set_index("layer")
    assert by_layer.loc[1, "value"] < by_layer.loc[0, "value"] - 1
    assert by_layer["head"].isna().all()
    assert by_layer.loc[1, "null_mean"] > by_layer.loc[1, "value"] + 1
    assert "icl-score" not in set(table["metric"])
