import pytest
import torch

from mechdistill.circuits import (
    ABLATIONS,
    SCORES,
    CopyCircuit,
    Head,
    ablate,
    ablated,
    clean_outputs,
    copy_circuit,
    head_scores,
    parse_head,
    replaced,
    standouts,
    targets,
)
from mechdistill.circuits.ablation import (
    Edits,
    KnockedOut,
    Stream,
    clean_streams,
    damaged,
    displaced,
    moment,
    random_subspace,
    removed,
)
from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram
from mechdistill.positions import EvaluationSet, masked_mean, predict
from tests.helpers import induction_network, transformer, world


def setup(seed: int = 0, output: float = 1.0):
    sandbox = world(seq_len=24)
    model = transformer(d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, seed=seed, attn_only=False)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.W_O *= output
    data = EvaluationSet.held_out(sandbox, 16)
    return model, data, clean_outputs(model, data)


@pytest.mark.parametrize("ablation", list(ABLATIONS))
def test_only_the_named_heads_output_changes(ablation: str) -> None:
    model, data, outputs = setup()
    with ablated(model, (Head(0, 1),), replaced(outputs, ABLATIONS[ablation])):
        _, cache = model.run_with_cache(data.tokens, names_filter=lambda n: n.endswith("hook_z"))
        _, results = model.run_with_cache(data.tokens, names_filter="blocks.0.attn.hook_result")
    z = cache["blocks.0.attn.hook_z"]
    assert torch.equal(z[:, :, 0], outputs[0][:, :, 0])
    if ablation == "resample":
        assert sorted(z[:, 3, 1, 0].tolist()) == sorted(outputs[0][:, 3, 1, 0].tolist())
    else:
        expected = torch.zeros(()) if ablation == "zero" else outputs[0][:, :, 1].mean((0, 1))
        torch.testing.assert_close(z[:, :, 1], expected.expand_as(z[:, :, 1]))
    torch.testing.assert_close(
        results["blocks.0.attn.hook_result"][:, :, 1], (z[:, :, 1] @ model.blocks[0].attn.W_O[1]), rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(cache["blocks.1.attn.hook_z"], outputs[1], atol=1e-4), "later layers see the damage"
    torch.testing.assert_close(clean_outputs(model, data)[1], outputs[1])


def test_zeroing_equals_zero_output_weights() -> None:
    model, data, outputs = setup()
    heads = (Head(0, 0), Head(1, 1))
    with ablated(model, heads, replaced(outputs, ABLATIONS["zero"])):
        by_hook = predict(model, data).log_probs
    with torch.no_grad():
        for head in heads:
            model.blocks[head.layer].attn.W_O[head.head] = 0
    torch.testing.assert_close(by_hook, predict(model, data).log_probs, rtol=1e-4, atol=1e-5)


def test_hooks_are_gone_even_when_the_inside_raises() -> None:
    model, data, outputs = setup()
    before = predict(model, data).log_probs
    instead = replaced(outputs, ABLATIONS["mean"])
    edits = Edits(KnockedOut(model, (Head(0, 0),), instead), outputs)
    for damage in (
        ablated(model, (Head(0, 0),), instead),
        damaged(model, displaced(edits, torch.Generator())),
    ):
        with pytest.raises(RuntimeError, match="on purpose"), damage:
            raise RuntimeError("on purpose")
    assert torch.equal(predict(model, data).log_probs, before)


def test_the_control_moves_the_stream_by_the_same_distance_elsewhere() -> None:
    model, data, outputs = setup()
    heads, name = (Head(1, 0), Head(1, 1)), "blocks.1.hook_resid_mid"
    _, intact = model.run_with_cache(data.tokens, names_filter=name)
    changes, instead = [], replaced(outputs, ABLATIONS["mean"])
    edits = Edits(KnockedOut(model, heads, instead), outputs)
    for damage in (
        ablated(model, heads, instead),
        damaged(model, displaced(edits, torch.Generator().manual_seed(0))),
        damaged(model, displaced(edits, torch.Generator().manual_seed(1))),
    ):
        with damage:
            _, cache = model.run_with_cache(data.tokens, names_filter=name)
        changes.append(cache[name] - intact[name])
    real, first, second = changes
    torch.testing.assert_close(first.norm(dim=-1), real.norm(dim=-1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(second.norm(dim=-1), real.norm(dim=-1), rtol=1e-3, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(real, first, dim=-1)
    assert cosine.mean().abs() < 0.35
    assert not torch.allclose(first, second, atol=1e-3)


def test_a_removed_subspace_is_of_the_edits_rank_and_size_and_nothing_is_left_in_it() -> None:
    """And a rotated edit leaves everything there: it is no control for what is lost."""
    model, data, outputs = setup(output=3.0)
    heads = (Head(1, 0),)
    d = model.config.d_model
    clean = clean_streams(model, data)
    for ablation in ABLATIONS.values():
        instead = replaced(outputs, ablation)
        streams = [Stream(*pair) for pair in zip(clean, replaced(clean, ablation), strict=True)]
        moments = [moment(stream.instead - stream.clean) for stream in streams]
        of = Edits(KnockedOut(model, heads, instead), outputs)
        damages = (
            ablated(model, heads, instead),
            damaged(model, removed(of, streams, moments, torch.Generator().manual_seed(0))),
            damaged(model, removed(of, streams, moments, torch.Generator().manual_seed(1))),
            damaged(model, displaced(of, torch.Generator().manual_seed(0))),
        )
        edits = []
        for damage in damages:
            with damage:
                _, cache = model.run_with_cache(data.tokens, names_filter="blocks.1.hook_resid_mid")
            edits.append((cache["blocks.1.hook_resid_mid"] - clean[1][:, :, 0]).flatten(0, 1).double())
        size = [edit.square().sum(dim=1).mean().item() for edit in edits]
        rank = [torch.linalg.matrix_rank(edit, rtol=1e-4).item() for edit in edits]
        assert size == pytest.approx([size[0]] * 4, rel=1e-3)
        assert rank == [model.config.d_model // model.config.n_heads] * 4
        assert not torch.allclose(edits[1], edits[2], atol=1e-2)
        stream = clean[1][:, :, 0].flatten(0, 1).double()
        left = [torch.linalg.matrix_rank((stream + edit).T.cov(), rtol=1e-8).item() for edit in edits[1:]]
        lost = 0 if ablation.name == "resample" else rank[0]  # there the subspace holds what another sequence said
        assert left == [d - lost, d - lost, d]


def test_a_random_subspace_holds_what_is_asked_for_if_any_of_its_rank_can() -> None:
    generator = torch.Generator().manual_seed(0)
    axes = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2]  # mean squares
    change = torch.diag((6 * torch.tensor(axes)).sqrt())
    for rank, size, expected in ((2, 0.35, 2), (2, 4.5, 2), (3, 2.0, 3), (6, 2.1, 2), (6, 100.0, 5), (1, 0.05, 1)):
        delta = torch.zeros(6, 6)
        delta[range(rank), range(rank)] = (6 * size / rank) ** 0.5
        basis = random_subspace(moment(change), moment(delta), generator)
        assert basis.shape == (6, expected)
        torch.testing.assert_close(basis.T @ basis, torch.eye(expected, dtype=torch.float64))
        reached = (change.double() @ basis).square().sum().item() / 6
        within = min(max(size, sum(axes[:expected])), sum(axes[-expected:]))
        assert reached == pytest.approx(within, rel=1e-3)


def test_effects_are_differences_to_the_intact_model() -> None:
    model, data, outputs = setup()
    table = ablate(model, data, CopyCircuit((Head(1, 0),), (Head(0, 1),)), torch.Generator().manual_seed(0))
    intact = predict(model, data)
    for ablation in ABLATIONS:
        with ablated(model, (Head(1, 0),), replaced(outputs, ABLATIONS[ablation])):
            without = predict(model, data)
        rows = table[(table["ablation"] == ablation) & (table["layer"] == 1) & (table["head"] == 0)]
        rows = rows[rows["mode"] == "full"]
        expected = {
            "copy-loss-delta": masked_mean(without.loss - intact.loss, data.copyable),
            "bigram-kl-delta": masked_mean(without.kl - intact.kl, data.ordinary),
        }
        for metric, value in expected.items():
            found = rows[(rows["metric"] == metric) & rows["bucket"].isna()]["value"].item()
            assert found == pytest.approx(value, abs=1e-5)
    assert len(table[(table["what"] == "head") & table["bucket"].isna()]) == 4 * 2 * 3 * 2
    lookup = table[(table["what"] == "lookup") & (table["ablation"] == "mean")]
    assert set(lookup[lookup["metric"] == "self-repair"]["value"]) == {0.0}
    lookup = lookup[lookup["metric"] != "self-repair"]
    single = table[(table["layer"] == 1) & (table["head"] == 0) & (table["ablation"] == "mean")]
    assert lookup["value"].tolist() == pytest.approx(single["value"].tolist()), "a set of one is that head"
    assert table[table["what"].str.contains(":")]["control"].all()
    assert not table[~table["what"].str.contains(":")]["control"].any()
    outside = table[table["what"] == "lookup: outside"]
    assert set(outside["heads"]) == {"L1H1"}


def test_knocking_out_the_hand_built_circuit_costs_the_copying() -> None:
    sandbox = world(vocab=24, seq_len=32, triggers={"count": 3})
    model = induction_network(sandbox.vocab, sandbox.seq_len)
    with torch.no_grad():
        model.W_U *= 8  # confident enough that copying shows in the loss
    data = EvaluationSet.held_out(sandbox, 64)
    circuit = copy_circuit(head_scores(model, sandbox, torch.Generator().manual_seed(0)))
    assert circuit == CopyCircuit(lookup=(Head(1, 0),), previous_token=(Head(0, 0),))
    assert circuit.heads == (Head(0, 0), Head(1, 0))
    table = ablate(model, data, circuit, torch.Generator().manual_seed(0), ablations=[ABLATIONS["mean"]])
    cost = table[table["metric"] == "copy-loss-delta"].groupby("what")["value"].mean()
    assert cost["lookup"] > 0.5
    assert cost["previous-token"] > 0.5
    assert abs(cost["lookup: outside"]) < 1e-6, "the other head writes nothing"
    assert cost["lookup"] > 5 * cost["lookup: rotated edit"]
    draws = table[(table["what"] == "lookup: removed subspace") & (table["metric"] == "copy-loss-delta")]["value"]
    assert len(draws) == 5, "drawn in one mode alone"
    assert draws.std() > 0


def test_an_untrained_model_has_no_circuit() -> None:
    sandbox = world(seq_len=32)
    model = transformer(d_vocab=sandbox.vocab, n_ctx=32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05)
    scores = head_scores(model, sandbox, torch.Generator().manual_seed(0))
    assert copy_circuit(scores) == CopyCircuit((), ())
    assert all(standouts(scores, score) == () for score in SCORES.values())
    table = ablate(model, EvaluationSet.held_out(sandbox, 8), CopyCircuit((), ()), torch.Generator())
    assert set(table["what"]) == {"head"}


def test_head_names() -> None:
    assert parse_head("L1H3") == parse_head("1.3") == parse_head(" l1h3 ") == Head(1, 3)
    assert str(Head(10, 2)) == "L10H2"
    for bad in ("", "L1", "H3", "1-3", "L1H3x"):
        with pytest.raises(MechdistillError, match="must look like"):
            parse_head(bad)


def test_a_model_without_heads_is_refused() -> None:
    sandbox = world()
    with pytest.raises(MechdistillError, match="no heads"):
        ablate(
            Bigram(d_vocab=12, n_ctx=16),
            EvaluationSet.held_out(sandbox, 4),
            CopyCircuit((), ()),
            torch.Generator(),
        )


def test_pairs_are_of_the_circuits_strongest_heads_then_of_bystanders() -> None:
    late, early = [Head(1, head) for head in range(4)], [Head(0, head) for head in range(4)]
    ranked = (late[3], late[0], late[2], late[1], *early)

    def paired(circuit: CopyCircuit) -> set[Head]:
        pairs = targets.pairs(circuit, ranked)
        heads = {head for pair in pairs for head in pair}
        assert len(pairs) == len(set(pairs)) == 6
        assert all(first < second for first, second in pairs)
        return heads

    assert paired(CopyCircuit(tuple(late), (early[2], early[3]))) == {late[3], late[0], late[2], early[2]}
    assert paired(CopyCircuit(tuple(late), ())) == set(late)
    assert paired(CopyCircuit((late[1],), (early[0],))) == {late[1], early[0], late[3], late[0]}
    assert targets.pairs(CopyCircuit((), ()), ranked) == []
