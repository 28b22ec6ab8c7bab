"""Scores of weights against TransformerLens's own, dense and random matrices, and networks with known circuits."""

import math

import pandas as pd
import pytest
import torch
from torch import Tensor

from mechdistill.circuits import SCORES, HeadView, Probes, copy_circuit, head_scores, probes
from mechdistill.circuits.scores import Scored
from mechdistill.model import Transformer, to_transformer_lens
from mechdistill.sandbox import Sandbox
from tests.helpers import induction_network, transformer, world
from tests.networks import (
    anti_induction_network,
    previous_token_network,
    redundant_network,
    trigger_gated_network,
)

KINDS = ("q-composition", "k-composition", "v-composition")
SHAPES = [{}, {"norm": "rmsnorm", "n_heads": 4, "n_kv_heads": 2}, {"norm": "none", "biases": True}]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return world(vocab=24, seq_len=32, rows={"high": 2.0}, triggers={"count": 3})


@pytest.fixture(scope="module")
def seen() -> Probes:
    return probes(world(), 6, 16, torch.Generator().manual_seed(0))


def scored(name: str, model: object, seen: Probes) -> Scored:
    return SCORES[name].of(HeadView(model), seen)


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_composition_is_transformer_lens_s(changes: dict, seen: Probes) -> None:
    """Its own scores are of folded weights, so that norms are put into them first."""
    model = transformer(n_layers=3, **changes)
    bridge = to_transformer_lens(model)
    ours = {name: scored(name, model, seen).value for name in KINDS}
    for name, value in ours.items():
        torch.testing.assert_close(scored(name, bridge, seen).value, value, equal_nan=True)
    if changes.get("norm") != "none":
        bridge.enable_compatibility_mode()
    for name, value in ours.items():
        theirs = bridge.all_composition_scores(name[0].upper())
        theirs = getattr(theirs, "scores", theirs).detach()  # [earlier layer, earlier head, later layer, later head]
        for later in range(3):
            for earlier in range(later):
                expected = theirs[earlier, :, later].T
                torch.testing.assert_close(value[later, :, earlier], expected, atol=1e-5, rtol=1e-5)
            assert value[later, :, later:].isnan().all(), "no head composes with a later one"


@pytest.mark.parametrize("norm", ["layernorm", "none"])
def test_random_matrices_compose_at_chance(norm: str, seen: Probes) -> None:
    values, chance = [], 0.0
    for seed in range(12):
        model = transformer(norm=norm, d_model=32, n_heads=4, seed=seed)
        with torch.no_grad():
            for block in model.blocks:
                for name, parameter in block.named_parameters():
                    if "ln" in name:
                        parameter.fill_(float(name.endswith("weight")))
        for name in KINDS:
            found = scored(name, model, seen)
            values.append(found.value[1, :, 0].flatten())
            chance = found.chance or 0.0
    assert chance == pytest.approx((31 if norm == "layernorm" else 32) ** -0.5)
    assert float(torch.cat(values).pow(2).mean().sqrt()) == pytest.approx(chance, rel=0.03)


def test_rotary_positions_leave_undefined_what_weights_alone_do_not_say(seen: Probes) -> None:
    names = set(head_scores(transformer(positions="rotary"), world(), torch.Generator(), sequences=4)["metric"])
    gone = {"q-composition", "k-composition", "recall-trigger", "recall-previous-position"}
    assert not names & gone
    assert {"v-composition", "copying", "recall-output"} <= names


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_copying_is_that_of_the_whole_vocabulary_s_matrix(changes: dict, seen: Probes) -> None:
    model = transformer(**changes)
    value = scored("copying", model, seen).value
    mean = torch.eye(16) - 1 / 16 if changes.get("norm", "layernorm") == "layernorm" else torch.eye(16)

    def weight(norm: torch.nn.Module) -> Tensor:
        return torch.diag(getattr(norm, "weight", torch.ones(16)))

    for layer, block in enumerate(model.blocks):
        for head in range(model.cfg.n_heads):
            group = head * model.W_V.shape[1] // model.cfg.n_heads
            ov = model.W_V[layer, group] @ model.W_O[layer, head]
            whole = model.W_E @ mean @ weight(block.ln1) @ ov @ mean @ weight(model.ln_final) @ model.W_U
            eigenvalues = torch.linalg.eigvals(whole.double())
            expected = eigenvalues.real.sum() / eigenvalues.abs().sum()
            assert float(value[layer, head]) == pytest.approx(float(expected), abs=1e-4)


def test_copying_is_transformer_lens_s_eigenvalue_score() -> None:
    model = transformer(norm="none")
    bridge = to_transformer_lens(model)
    seen = probes(world(), 2, 16, torch.Generator())
    value = scored("copying", bridge, seen).value
    for layer in range(2):
        for head in range(2):
            whole = bridge.W_E.detach() @ bridge.OV[layer, head].AB.detach() @ bridge.W_U.detach()
            eigenvalues = torch.linalg.eigvals(whole.double())
            expected = eigenvalues.real.sum() / eigenvalues.abs().sum()
            assert float(value[layer, head]) == pytest.approx(float(expected), abs=1e-4)


def test_copying_by_logits_and_recall_are_loops_over_tokens(seen: Probes) -> None:
    model = transformer(biases=True)
    view = HeadView(model)
    tokens = seen.repeated.tokens[:, 1 : seen.repeated.length + 1].tolist()
    shares = scored("copying-logits", model, seen).value
    output = scored("recall-output", model, seen).value
    final, unembed = model.ln_final.weight, model.W_U
    for layer, block in enumerate(model.blocks):
        for head in range(2):
            moved = block.ln1(model.W_E) @ view.W_V[layer, head] @ view.W_O[layer, head]
            logits = (moved - moved.mean(-1, keepdim=True)) * final @ unembed
            assert float(output[layer, head]) == pytest.approx(
                float((logits.argmax(-1) == torch.arange(12)).float().mean())
            )
            found = []
            for block_tokens in tokens:
                for t in block_tokens:
                    u = logits[t, block_tokens] - logits[t, block_tokens].mean()
                    own = float(u[block_tokens.index(t)])
                    raised = float(u.clamp(min=0).sum())
                    found.append(own / raised)  # what is lowered comes to the same sum
            assert float(shares[layer, head]) == pytest.approx(sum(found) / len(found), abs=1e-4)


def test_recall_of_positions_and_triggers_are_loops(seen: Probes) -> None:
    model = transformer(biases=True)
    attn = [block.attn for block in model.blocks]
    positions = scored("recall-previous-position", model, seen)
    triggers = scored("recall-trigger", model, seen)
    fixed = list(world().triggers)
    assert positions.chance == pytest.approx(sum(1 / (t + 1) for t in range(1, 16)) / 15)
    assert triggers.chance == 1 / len(fixed)
    for layer in range(2):
        for head in range(2):
            p = model.blocks[layer].ln1(model.W_pos)
            q = p @ attn[layer].W_Q[head] + attn[layer].b_Q[head]
            k = p @ attn[layer].W_K[head] + attn[layer].b_K[head]
            hits = [int(torch.argmax(k[: t + 1] @ q[t])) == t - 1 for t in range(1, 16)]
            assert float(positions.value[layer, head]) == pytest.approx(sum(hits) / 15)
    for head in range(2):
        for source in range(2):
            e = model.W_E[fixed]
            written = model.blocks[0].ln1(e) @ attn[0].W_V[source] @ attn[0].W_O[source]
            q = model.blocks[1].ln1(e) @ attn[1].W_Q[head] + attn[1].b_Q[head]
            k = model.blocks[1].ln1(written) @ attn[1].W_K[head] + attn[1].b_K[head]
            hits = (q @ k.T).argmax(-1) == torch.arange(len(fixed))
            assert float(triggers.value[1, head, 0, source]) == pytest.approx(float(hits.float().mean()))


def by_head(model: Transformer, sandbox: Sandbox) -> pd.DataFrame:
    table = head_scores(model, sandbox, torch.Generator().manual_seed(0), sequences=16)
    return table[table["source_layer"].isna() & table["head"].notna()].set_index(["metric", "layer", "head"])


def test_hand_built_networks_have_the_known_scores(sandbox: Sandbox) -> None:
    shape = (sandbox.vocab, sandbox.seq_len)
    value = {
        "induction": by_head(induction_network(*shape), sandbox)["value"],
        "anti": by_head(anti_induction_network(*shape), sandbox)["value"],
        "previous": by_head(previous_token_network(*shape), sandbox)["value"],
        "redundant": by_head(redundant_network(*shape), sandbox)["value"],
    }
    for name, sign in (("induction", 1), ("anti", -1), ("redundant", 1)):
        heads = (0, 1) if name == "redundant" else (0,)
        for head in heads:
            for metric in ("induction", "induction-general", "induction-strength", "prefix-matching", "trigger-lookup"):
                assert value[name][metric, 1, head] == pytest.approx(1, abs=0.01), (name, metric)
            for metric in ("copying", "copying-logits"):
                assert value[name][metric, 1, head] == pytest.approx(sign, abs=0.01), (name, metric)
            assert sign * value[name]["direct-logit-attribution", 1, head] > 1
            assert value[name]["recall-output", 1, head] == max(0, sign)
    for name in value:
        assert value[name]["recall-previous-position", 0, 0] == 1
        assert value[name]["previous-token", 0, 0] > 0.95
    lookups = value["previous"].loc[["induction", "prefix-matching", "trigger-lookup"]]
    assert lookups.max() < 0.3, "half a circuit finds nothing"
    assert value["previous"]["direct-logit-attribution"].abs().max() < 0.01


def test_a_pair_that_composes_is_the_one_that_was_built(sandbox: Sandbox) -> None:
    table = head_scores(redundant_network(sandbox.vocab, sandbox.seq_len), sandbox, torch.Generator(), sequences=8)
    pairs = table[table["source_layer"].notna()].set_index(["metric", "head", "source_head"])["value"]
    for head in (0, 1):
        assert pairs["k-composition", head, 0] > 1.5 * table["chance"][table["metric"] == "k-composition"].iloc[0]
        assert pairs["recall-trigger", head, 0] == 1
        assert pairs["recall-trigger", head, 1] == pytest.approx(1 / 3), "a head of zeros: all tie"
        assert max(pairs["q-composition", head, 0], pairs["v-composition", head, 0]) < 0.02
        assert ("k-composition", head, 1) not in pairs, "a head of zeros composes with nothing"


def test_a_trigger_gated_head_is_at_chance_everywhere_else(sandbox: Sandbox) -> None:
    model = trigger_gated_network(sandbox.vocab, sandbox.seq_len, sandbox.triggers)
    table = head_scores(model, sandbox, torch.Generator().manual_seed(0), sequences=16)
    head = table[(table["layer"] == 1) & (table["head"] == 0)].set_index("metric")
    for metric in ("induction", "prefix-matching", "trigger-lookup", "induction-strength"):
        assert head.loc[metric, "value"] == pytest.approx(1, abs=0.01)
        assert head.loc[metric, "p"] < 0.01
    for metric in ("induction-general", "prefix-matching-general"):
        assert head.loc[metric, "value"] == pytest.approx(head.loc[metric, "chance"], abs=1e-3)
        assert head.loc[metric, "p"] > 0.01
    assert [str(one) for one in copy_circuit(table).lookup] == ["L1H0"]


def test_induction_strength_is_right_less_wrong_by_loop(sandbox: Sandbox) -> None:
    model = transformer(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, seed=4)
    seen = probes(sandbox, 5, model.n_ctx, torch.Generator().manual_seed(3))
    tokens, length = seen.repeated.tokens.tolist(), seen.repeated.length
    patterns = HeadView(model).patterns(seen.repeated.tokens)
    value = scored("induction-strength", model, seen).value
    for layer in range(2):
        for head in range(2):
            means = []
            for b, x in enumerate(tokens):
                found = []
                for q in range(length + 1, 2 * length + 1):
                    after = [s for s in range(2, length + 1) if x[s - 1] in sandbox.triggers]
                    if x[q] in sandbox.triggers:
                        row, right = patterns[layer][b, head, q], q - length + 1
                        wrong = [float(row[s]) for s in after if s != right]
                        found.append(float(row[right]) - sum(wrong) / len(wrong))
                means.append(sum(found) / len(found))
            assert float(value[layer, head]) == pytest.approx(sum(means) / len(means), abs=1e-5)
            assert math.isclose(scored("induction-strength", model, seen).chance or 0, 0)
