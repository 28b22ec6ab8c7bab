"""Networks built by hand: what knocking out each head and each set must cost, from what the network is."""

from collections.abc import Callable

import pandas as pd
import pytest
import torch

from mechdistill.circuits import ABLATIONS, CopyCircuit, Head, ablate
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet, masked_mean, predict
from mechdistill.sandbox import Sandbox
from tests.helpers import induction_network, world
from tests.networks import previous_token_network, redundant_network, trigger_gated_network

L0H0, L0H1, L1H0, L1H1 = (Head(layer, head) for layer in (0, 1) for head in (0, 1))
EVERY = (L1H0, L1H1, L0H0, L0H1)


def measured(build: Callable[[Sandbox], Transformer], circuit: CopyCircuit) -> tuple[pd.DataFrame, float, float]:
    """Effects on copying, and copy loss of the network whole and of one whose later heads write nothing."""
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 3})
    data = EvaluationSet.held_out(sandbox, 48)
    model = build(sandbox)
    table = ablate(model, data, circuit, torch.Generator().manual_seed(0), ranked=EVERY)
    whole = masked_mean(predict(model, data).loss, data.copyable)
    model.blocks[1].attn.W_O.zero_()
    return table[~table["control"]], whole, masked_mean(predict(model, data).loss, data.copyable)


def value(table: pd.DataFrame, metric: str, ablation: str, heads: str, mode: str = "full") -> float:
    """Of a set by its heads, or of a single head."""
    named = table["heads"].fillna("L" + table["layer"].astype(str) + "H" + table["head"].astype(str))
    chosen = (named == heads) & (table["ablation"] == ablation) & (table["mode"] == mode) & (table["metric"] == metric)
    found = table[chosen]["value"].unique()
    assert len(found) == 1, "the same under every name"
    return float(found[0])


def induction(sandbox: Sandbox) -> Transformer:
    model = induction_network(sandbox.vocab, sandbox.seq_len)
    model.W_U *= 8  # confident enough that copying shows in the loss
    return model


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_of_a_perfect_induction_circuit_either_half_costs_the_copying_and_bystanders_nothing(ablation: str) -> None:
    table, whole, without = measured(induction, CopyCircuit((L1H0,), (L0H0,)))
    assert without - whole > 2
    if ablation == "zero":
        assert value(table, "copy-loss-delta", ablation, "L1H0") == pytest.approx(without - whole, abs=1e-5)
    for half in ("L1H0", "L0H0"):
        assert value(table, "copy-loss-delta", ablation, half) > 1.5
        assert value(table, "self-repair", ablation, half) == 0, "a lone head"
    for bystander in ("L0H1", "L1H1"):
        assert value(table, "copy-loss-delta", ablation, bystander) == pytest.approx(0, abs=1e-6)
        # a lone head beside one that does nothing: nobody repairs anything
        pair = " ".join(sorted((bystander, "L1H0")))
        assert value(table, "self-repair", ablation, pair) == pytest.approx(0, abs=1e-5)
    circuit = value(table, "copy-loss-delta", ablation, "L0H0 L1H0")
    halves = sum(value(table, "copy-loss-delta", ablation, half) for half in ("L0H0", "L1H0"))
    assert value(table, "self-repair", ablation, "L0H0 L1H0") == pytest.approx(circuit - halves, abs=1e-6)


def test_what_the_first_half_tells_the_second_is_where_to_look() -> None:
    """With patterns held it costs nothing to lose it: no value of it is read. The second half costs as much as ever."""
    table, _, _ = measured(induction, CopyCircuit((L1H0,), (L0H0,)))
    for ablation in ABLATIONS:
        assert abs(value(table, "copy-loss-delta", ablation, "L0H0", "pattern-preserving")) < 0.1
        full, held = (
            value(table, "copy-loss-delta", ablation, "L1H0", mode) for mode in ("full", "pattern-preserving")
        )
        assert held == full


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_two_heads_that_do_the_same_repair_each_other(ablation: str) -> None:
    table, whole, without = measured(
        lambda sandbox: redundant_network(sandbox.vocab, sandbox.seq_len), CopyCircuit((L1H0, L1H1), (L0H0,))
    )
    alone = [value(table, "copy-loss-delta", ablation, head) for head in ("L1H0", "L1H1")]
    both = value(table, "copy-loss-delta", ablation, "L1H0 L1H1")
    assert alone[0] == pytest.approx(alone[1], abs=1e-5)
    assert both > 2
    assert max(alone) < both / 10
    if ablation == "zero":
        assert both == pytest.approx(without - whole, abs=1e-5)
    assert value(table, "self-repair", ablation, "L1H0 L1H1") == pytest.approx(both - sum(alone), abs=1e-6)
    assert value(table, "self-repair", ablation, "L1H0 L1H1") > both / 2


def test_a_previous_token_head_alone_is_read_by_no_head() -> None:
    """So holding the patterns saves nothing of what it costs, and no later head costs anything."""
    table, _, _ = measured(
        lambda sandbox: previous_token_network(sandbox.vocab, sandbox.seq_len), CopyCircuit((), (L0H0,))
    )
    for ablation in ABLATIONS:
        full, held = (
            value(table, "copy-loss-delta", ablation, "L0H0", mode) for mode in ("full", "pattern-preserving")
        )
        assert held == pytest.approx(full, abs=1e-5)
        assert ablation != "zero" or abs(full) > 1, "the norm notices"
        for head in ("L0H1", "L1H0", "L1H1"):
            assert value(table, "copy-loss-delta", ablation, head) == pytest.approx(0, abs=1e-6)


def test_a_trigger_gated_head_costs_copying_and_no_more() -> None:
    def gated(sandbox: Sandbox) -> Transformer:
        model = trigger_gated_network(sandbox.vocab, sandbox.seq_len, sandbox.triggers)
        model.W_U *= 8
        return model

    table, whole, without = measured(gated, CopyCircuit((L1H0,), (L0H0,)))
    assert value(table, "copy-loss-delta", "zero", "L1H0") == pytest.approx(without - whole, abs=1e-5)
    assert value(table, "copy-loss-delta", "mean", "L1H0") > 1.5
    assert value(table, "copy-loss-delta", "mean", "L1H1") == pytest.approx(0, abs=1e-6)
