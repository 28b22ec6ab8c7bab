"""The sweep against a loop that anybody would write: one `run_with_hooks` pass a knockout, everything run again."""

import gc
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor

import mechdistill as md
from mechdistill.circuits import ABLATIONS, CopyCircuit, Head, ablate, ablated, clean_outputs, parse_head, replaced
from mechdistill.circuits.ablation import (
    MODES,
    PATTERN_PRESERVING,
    Edits,
    KnockedOut,
    Stream,
    Task,
    clean_patterns,
    clean_streams,
    damaged,
    displaced,
    losses,
    moment,
    removed,
)
from mechdistill.circuits.ablation import _fast as fast
from mechdistill.errors import MechdistillError
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet, Positions, masked_mean, predict
from tests.helpers import only_meanwhile, transformer, world

SHAPES: dict[str, dict[str, Any]] = {
    "attention only": {},
    "three layers with MLPs": {"n_layers": 3, "attn_only": False, "biases": True},
    "rotary, grouped, rmsnorm": {
        "n_heads": 4,
        "n_kv_heads": 2,
        "positions": "rotary",
        "norm": "rmsnorm",
        "attn_only": False,
        "act": "swiglu",
    },
    "no norm, tied, biased, clamped": {
        "norm": "none",
        "tied": True,
        "biases": True,
        "n_layers": 3,
        "clamps": ({"head": "L1H1", "pattern": "previous-token"}, {"head": "L2H0", "pattern": "induction"}),
    },
}


def material(sequences: int = 12, **shape: Any) -> tuple[Transformer, EvaluationSet]:
    sandbox = world(seq_len=24)
    model = transformer(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, **shape)
    return model, EvaluationSet.held_out(sandbox, sequences)


def circuit_of(model: Transformer) -> CopyCircuit:
    last = model.config.n_layers - 1
    return CopyCircuit(lookup=(Head(1, 0), Head(last, 1)), previous_token=(Head(0, 1),))


def by_hand(model: Transformer, data: EvaluationSet, heads: list[Head], ablation: str, mode: str) -> Positions:
    """The definition, without anything of the package but the replacement of one head's z."""
    _, clean = model.run_with_cache(data.tokens)

    def write(z: Tensor, hook: Any) -> Tensor:
        for head in heads:
            if head.layer == hook.layer():
                random = torch.Generator().manual_seed(0)
                z[:, :, head.head] = ABLATIONS[ablation].replacement(clean[hook.name], random)[:, :, head.head]
        return z

    def attend(pattern: Tensor, hook: Any) -> Tensor:
        return clean[hook.name]

    layers = range(model.config.n_layers)
    hooks: list[Any] = [(f"blocks.{layer}.attn.hook_z", write) for layer in layers]
    if mode == "pattern-preserving":
        hooks += [(f"blocks.{layer}.attn.hook_pattern", attend) for layer in layers]
    return Positions(data, model.run_with_hooks(data.tokens, fwd_hooks=hooks).log_softmax(-1))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_row_equals_a_pass_of_its_own(shape: dict[str, Any]) -> None:
    """For every kind, mode and set, and for the controls that are heads."""
    model, data = material(**shape)
    before = [parameter.clone() for parameter in model.parameters()]
    tokens = data.tokens.clone()
    ranked = tuple(Head(1, head) for head in range(model.config.n_heads))
    table = ablate(model, data, circuit_of(model), torch.Generator().manual_seed(0), ranked=ranked)
    assert all(map(torch.equal, before, model.parameters()))
    assert torch.equal(tokens, data.tokens)
    intact = predict(model, data)
    drawn = table["what"].str.contains("removed|rotated")
    checked = 0
    for (ablation, mode, _, heads), rows in table[~drawn].groupby(["ablation", "mode", "what", names(table[~drawn])]):
        damaged = by_hand(model, data, [parse_head(head) for head in heads.split()], ablation, mode)
        values = rows.set_index(["metric", rows["bucket"].fillna(-1)])["value"]
        assert values["copy-loss-delta", -1] == pytest.approx(
            masked_mean(damaged.loss, data.copyable) - masked_mean(intact.loss, data.copyable), abs=1e-5
        )
        for bucket in (-1, 0, 3):
            mask = data.ordinary if bucket == -1 else data.bucket == bucket
            expected = masked_mean(damaged.kl, mask) - masked_mean(intact.kl, mask)
            assert values["bigram-kl-delta", bucket] == pytest.approx(expected, abs=1e-5)
        checked += 1
    assert set(table["what"]) >= {"head", "pair", "lookup", "previous-token", "circuit", "top-1", "top-2"}
    assert checked >= 3 * (2 * (model.config.n_layers * model.config.n_heads + 3) + 5)


def names(table: pd.DataFrame) -> pd.Series:
    """The heads of each row."""
    single = "L" + table["layer"].astype(str) + "H" + table["head"].astype(str)
    return table["heads"].fillna(single)


def test_drawn_controls_equal_a_pass_of_their_own() -> None:
    model, data = material(**SHAPES["three layers with MLPs"])
    outputs, streams = clean_outputs(model, data), clean_streams(model, data)
    patterns = clean_patterns(model, data)
    for ablation in ABLATIONS.values():
        edits = Edits(KnockedOut(model, (Head(0, 1), Head(1, 0)), replaced(outputs, ablation)), outputs)
        lost = [Stream(*pair) for pair in zip(streams, replaced(streams, ablation), strict=True)]
        changes = [moment(stream.instead - stream.clean) for stream in lost]
        generator = torch.Generator().manual_seed(0)
        drawn = [displaced(edits, generator), removed(edits, lost, changes, generator), edits.knocked_out]
        tasks = [Task(damage, frozen) for damage in drawn for frozen in (False, True)]
        for task, values in zip(tasks, losses(model, data, tasks), strict=True):
            with damaged(model, task.damage, patterns if task.frozen else None):
                own = predict(model, data)
            assert values[0].item() == pytest.approx(masked_mean(own.loss, data.copyable), abs=1e-5)
            assert values[1].item() == pytest.approx(masked_mean(own.kl, data.ordinary), abs=1e-5)


def test_how_a_set_is_cut_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of the evaluation set, which texts need, batches of sequences and batches of damages."""
    model, data = material(sequences=11)
    circuit = circuit_of(model)

    def table(data: EvaluationSet) -> pd.DataFrame:
        return ablate(model, data, circuit, torch.Generator().manual_seed(0))

    whole = table(data)
    bytes_of_four = 4 * 4 * data.world.seq_len * data.world.vocab
    for tokens, of in ((1, data), (100, data), (10**6, replace(data, chunk_bytes=bytes_of_four))):
        monkeypatch.setattr(fast, "_TOKENS", tokens)
        pd.testing.assert_frame_equal(table(of), whole, rtol=0, atol=1e-5)


def test_later_heads_notice_in_one_mode_and_not_in_the_other() -> None:
    model, data = material()
    instead, patterns = replaced(clean_outputs(model, data), ABLATIONS["zero"]), clean_patterns(model, data)
    looks, writes = "blocks.1.attn.hook_pattern", "blocks.1.attn.hook_z"
    _, clean = model.run_with_cache(data.tokens, names_filter=[looks, writes])
    for mode in MODES:
        with ablated(model, (Head(0, 1),), instead, patterns if mode.frozen else None):
            _, cache = model.run_with_cache(data.tokens, names_filter=[looks, writes])
        assert torch.allclose(cache[looks], clean[looks], atol=1e-6) == mode.frozen
        assert not torch.allclose(cache[writes], clean[writes], atol=1e-3), "values carry the damage in both"
    assert PATTERN_PRESERVING.frozen


def test_resampling_takes_from_one_other_sequence_and_uses_each_once() -> None:
    z = torch.arange(7.0)[:, None, None, None].expand(7, 3, 2, 4)
    instead = replaced([z, z + 100], ABLATIONS["resample"])
    source = instead[0][:, 0, 0, 0]
    assert sorted(source.tolist()) == list(range(7))
    assert (source != torch.arange(7)).all()
    assert torch.equal(instead[0], source[:, None, None, None].expand_as(z)), "at the same position, all heads alike"
    assert torch.equal(instead[1], instead[0] + 100), "and of the same sequence at every layer"
    with pytest.raises(MechdistillError, match="1 sequence has no other"):
        replaced([z[:1]], ABLATIONS["resample"])


def test_a_users_ablation_is_run_in_every_mode_and_sees_what_no_one_else_holds() -> None:
    model, data = material()
    with only_meanwhile():

        @md.ablation()
        def spoiled(z: Tensor, generator: torch.Generator) -> Tensor:
            return z.zero_()

        spoils = ablate(model, data, circuit_of(model), torch.Generator().manual_seed(0))
        spoils = spoils[~spoils["what"].str.contains("removed|rotated")]
        zero = spoils[spoils["ablation"] == "zero"]
        mine = spoils[spoils["ablation"] == "spoiled"]
        pd.testing.assert_series_equal(
            zero["value"].reset_index(drop=True), mine["value"].reset_index(drop=True), atol=1e-6
        )


def test_a_model_that_somebody_listens_to_is_refused() -> None:
    model, data = material()
    model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z)
    with pytest.raises(MechdistillError, match=r"hook is attached to blocks\.0\.attn\.hook_z; .*reset_hooks"):
        ablate(model, data, circuit_of(model), torch.Generator())
    model.reset_hooks()
    assert len(ablate(model, data, CopyCircuit((), ()), torch.Generator(), ablations=[ABLATIONS["mean"]]))


def test_memory_is_flat_over_a_thousand_calls() -> None:
    model, data = material(sequences=2)
    instead, patterns = replaced(clean_outputs(model, data), ABLATIONS["mean"]), clean_patterns(model, data)
    tasks = [
        Task(KnockedOut(model, (Head(layer, 0),), instead), frozen) for layer in (0, 1) for frozen in (False, True)
    ]

    def alive() -> tuple[int, int]:
        gc.collect()
        objects = gc.get_objects()
        return len(objects), sum(issubclass(type(each), Tensor) for each in objects)

    def some(times: int) -> None:
        for _ in range(times):
            losses(model, data, tasks)
            with ablated(model, (Head(0, 0),), instead, patterns):
                model(data.tokens)

    some(5)
    objects, tensors = alive()
    some(250)
    after, tensors_after = alive()
    assert tensors_after == tensors
    assert after - objects < 100, "a thousand knockouts leave nothing"
    assert not any(point.has_hooks() for point in model.hook_dict.values())
