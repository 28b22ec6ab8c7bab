"""A circuit as a set: networks in which what it carries is known, and every number against hooks set by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mechdistill.circuits import CopyCircuit, Head, parse_head
from mechdistill.circuits._sufficiency import sufficiency
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet
from tests.helpers import induction_network, world
from tests.networks import previous_token_network, redundant_network

L0H0, L0H1, L1H0, L1H1 = EVERY = tuple(Head(layer, head) for layer in (0, 1) for head in (0, 1))
SANDBOX = world(vocab=24, seq_len=32, triggers={"count": 3})
DATA = EvaluationSet.held_out(SANDBOX, 48)

Row = dict[str, Any]


def rows_of(model: Transformer, circuit: CopyCircuit) -> list[Row]:
    return sufficiency(model, DATA, circuit, torch.Generator().manual_seed(0))


def found(rows: list[Row], metric: str, head: Head | None = None) -> float:
    (row,) = [
        row
        for row in rows
        if row["metric"] == metric and not row["control"] and (head is None or (row["layer"], row["head"]) == head)
    ]
    return row["value"]


def induction(gain: float = 8.0) -> Transformer:
    model = induction_network(24, 32, norm="none")  # a norm would notice what nobody reads
    model.W_U *= gain
    return model


def test_a_circuit_of_which_the_rest_does_nothing_is_faithful_complete_and_minimal() -> None:
    rows = rows_of(induction(), CopyCircuit((L1H0,), (L0H0,)))
    assert found(rows, "faithfulness") == pytest.approx(1, abs=1e-5)
    assert found(rows, "completeness") == pytest.approx(1, abs=1e-5)
    assert found(rows, "minimality", L1H0) == pytest.approx(1, abs=1e-5)
    assert found(rows, "minimality", L0H0) > 0.9, "alone, L1H0 raises all that was seen: better than nothing"
    randoms = [row for row in rows if row["control"] and row["metric"] == "faithfulness"]
    assert len(randoms) == 5, "all other pairs of four heads"
    assert max(row["value"] for row in randoms) == pytest.approx(1 - found(rows, "minimality", L0H0), abs=1e-5)
    assert {row["p"] for row in rows if "p" in row} == {1 / 6}


def test_a_head_that_does_nothing_is_not_needed_and_half_a_circuit_is_not_faithful() -> None:
    rows = rows_of(induction(), CopyCircuit((L1H0, L1H1), (L0H0,)))
    assert found(rows, "faithfulness") == pytest.approx(1, abs=1e-5)
    assert found(rows, "minimality", L1H1) == pytest.approx(0, abs=1e-5)
    assert found(rows_of(induction(), CopyCircuit((L1H0,), ())), "faithfulness") < 0.1


def test_of_two_heads_that_do_the_same_either_is_needed_where_the_other_is_gone() -> None:
    model = redundant_network(24, 32, norm="none")
    both = rows_of(model, CopyCircuit((L1H0, L1H1), (L0H0,)))
    one = CopyCircuit((L1H0,), (L0H0,))
    assert found(both, "completeness") == pytest.approx(1, abs=1e-5)
    assert found(rows_of(model, one), "faithfulness") > 0.9, "one of them suffices"
    alone = rows_of(model, CopyCircuit((L1H0,), ()))
    assert found(alone, "completeness") < 0.1, "but without it nothing is lost, so it is not all there is"
    for head in (L1H0, L1H1):
        assert found(both, "minimality", head) > 0.9


def test_nothing_is_said_of_a_network_whose_heads_bring_no_copying() -> None:
    assert rows_of(previous_token_network(24, 32, norm="none"), CopyCircuit((), (L0H0,))) == []


def test_every_number_is_what_hooks_set_by_hand_give() -> None:
    """In a network of which every head does something: the induction circuit with noise on all weights."""
    model = induction().double()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    names = [f"blocks.{layer}.attn.hook_z" for layer in (0, 1)]
    _, clean = model.run_with_cache(DATA.tokens, names_filter=names)

    def loss(kept: set[Head]) -> float:
        def edit(z: Tensor, hook: Any) -> Tensor:
            for head in set(EVERY) - kept:
                if head.layer == hook.layer():
                    z[:, :, head.head] = clean[hook.name][:, :, head.head].mean(dim=(0, 1))
            return z

        log_probs = model.run_with_hooks(DATA.tokens, fwd_hooks=[(name, edit) for name in names]).log_softmax(-1)
        return -float(log_probs.gather(-1, DATA.next_tokens[..., None])[..., 0][DATA.copyable].mean())

    gain = loss(set()) - loss(set(EVERY))
    rows = rows_of(model, CopyCircuit((L1H0,), (L0H0,)))
    faithful: dict[frozenset[Head], float] = {}
    for row in rows:
        heads = {parse_head(name) for name in row["heads"].split()}
        if row["metric"] == "faithfulness":
            faithful[frozenset(heads)] = row["value"]
            assert row["value"] == pytest.approx((loss(set()) - loss(heads)) / gain, abs=1e-5)
        elif row["metric"] == "completeness":
            assert row["value"] == pytest.approx((loss(set(EVERY) - heads) - loss(set(EVERY))) / gain, abs=1e-5)
        else:
            without = loss(heads - {Head(row["layer"], row["head"])})
            assert row["value"] == pytest.approx((without - loss(heads)) / gain, abs=1e-5)
    assert len(faithful) == 6
    assert len({round(value, 4) for value in faithful.values()}) == 6, "no two sets do alike"
    assert len(rows) == 6 + 6 + 2
