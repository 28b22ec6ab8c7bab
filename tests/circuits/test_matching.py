"""Heads matched across networks: known permutations are found, and networks that share nothing do not match."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill.analysis import _match
from mechdistill.circuits import HeadView, match_heads
from mechdistill.config import ModelConfig
from mechdistill.errors import MechdistillError
from mechdistill.model import Bigram, Transformer, build, to_transformer_lens
from mechdistill.plots import matching_figure
from mechdistill.runs import Experiment
from mechdistill.training import train
from tests.helpers import induction_network, mechdistill, micro, only, transformer

TOKENS = torch.randint(0, 12, (24, 16), generator=torch.Generator().manual_seed(5))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def untrained(count: int, start: int = 100) -> list[Transformer]:
    config = ModelConfig(n_layers=2, d_model=16, n_heads=3, d_head=6)
    return [build(config, d_vocab=12, n_ctx=16, init_seed=start + n) for n in range(count)]


def permuted(model: Transformer, orders: list[list[int]]) -> Transformer:
    """The same function, heads in another order within each layer."""
    twin = Transformer(model.config, d_vocab=model.d_vocab, n_ctx=model.n_ctx)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        for block, order in zip(twin.blocks, orders, strict=True):
            attn = block.attn
            parts = [part.view(attn.n_heads, attn.d_head, -1)[order] for part in attn.W_QKV.chunk(3)]
            attn.W_QKV.copy_(torch.cat(parts).flatten(0, 1))
            attn.W_O.copy_(attn.W_O[order].clone())
    torch.testing.assert_close(twin(TOKENS), model(TOKENS))
    return twin.requires_grad_(False)


def assignment(table: pd.DataFrame) -> dict[tuple[int, int], tuple[int, int]]:
    rows = table[table["matched"] & table["layer"].notna()]
    return {(row["layer"], row["head"]): (row["other_layer"], row["other_head"]) for row in rows.to_dict("records")}


def test_a_copy_with_permuted_heads_is_matched_exactly() -> None:
    orders = [[2, 0, 1], [1, 2, 0]]
    model = transformer(n_heads=3, d_head=6)
    table = match_heads(model, permuted(model, orders), TOKENS, generator(), untrained(39))
    expected = {(layer, order[new]): (layer, new) for layer, order in enumerate(orders) for new in range(3)}
    assert assignment(table) == expected
    found = table[table["matched"]]
    np.testing.assert_allclose(found["value"], 1.0, atol=1e-5)
    assert (found["p"] == 1 / 40).all()
    assert (found["p_shuffled"] < 0.01).all()
    assert (found["relabelled"] < 0.6).all()


def test_similarity_and_assignment_are_those_of_brute_force() -> None:
    """Every cosine of patterns less uniform attention, and the best of all 720 labellings."""
    ours, theirs = transformer(n_heads=3, d_head=6, seed=1), transformer(n_heads=3, d_head=6, seed=2)
    table = match_heads(ours, theirs, TOKENS, generator())
    uniform = torch.ones(16, 16).tril() / torch.arange(1, 17)[:, None]
    flat = [
        (torch.cat(HeadView(model).patterns(TOKENS), 1) - uniform).transpose(0, 1).flatten(1).double()
        for model in (ours, theirs)
    ]
    cosine = torch.nn.functional.cosine_similarity(flat[0][:, None], flat[1][None], dim=-1)
    values = table[table["layer"].notna()]["value"].to_numpy().reshape(6, 6)
    np.testing.assert_allclose(values, cosine, atol=1e-6)
    best = max(itertools.permutations(range(6)), key=lambda order: sum(cosine[i, j] for i, j in enumerate(order)))
    assert assignment(table) == {divmod(i, 3): divmod(j, 3) for i, j in enumerate(best)}
    mean = table[table["layer"].isna()].iloc[0]
    np.testing.assert_allclose(mean["value"], cosine[range(6), list(best)].mean(), atol=1e-6)
    np.testing.assert_allclose(mean["relabelled"], cosine.mean(), atol=1e-6)
    assert table["p"].isna().all(), "no untrained network was given"


def test_networks_that_share_nothing_do_not_match_beyond_chance() -> None:
    """Of 20 pairs of untrained networks, against 39 others: p is uniform, so that 1 in 20 is at or below .05."""
    null, ps, heads = untrained(39), [], []
    for n in range(20):
        one, other = untrained(2, start=1000 + 2 * n)
        table = match_heads(one, other, TOKENS, generator(), null)
        ps.append(table[table["layer"].isna()]["p"].item())
        heads.append(table[table["layer"].notna()]["p"].min())
    assert sum(p <= 0.05 for p in ps) <= 4
    assert sum(p <= 0.05 for p in heads) <= 4
    assert 0.2 < np.mean(ps) < 0.8


def test_position_alone_is_told_from_matching_by_content() -> None:
    """L0H0 of an induction network looks one back in any sequence; L1H0 looks for what the sequence holds."""
    one, other = (induction_network(12, 16, d_head=20, sharpness=sharpness) for sharpness in (400.0, 200.0))
    table = match_heads(one, other, TOKENS, generator(), untrained(39))
    matched = table[table["matched"]].set_index(["layer", "head"])
    previous, induction, uniform = matched.loc[(0, 0)], matched.loc[(1, 0)], matched.loc[(1, 1)]
    assert previous["value"] > 0.99
    assert previous["p"] == 1 / 40, "no untrained head looks one back"
    assert previous["p_shuffled"] == 1.0, "but it does so whatever the tokens are"
    assert induction["value"] > 0.99
    assert induction["p_shuffled"] < 0.01
    assert induction["shuffled"] < 0.7
    assert uniform["value"] == 0.0, "nothing tells a uniform head from another"
    assert uniform["p"] > 0.5


def test_networks_of_other_shapes_and_bridges_match_too() -> None:
    small, large = transformer(n_heads=3, d_head=6), transformer(n_layers=3, n_heads=4)
    table = match_heads(small, large, TOKENS, generator())
    assert len(assignment(table)) == 6
    assert len(table) == 1 + 6 * 12
    reverse = match_heads(large, small, TOKENS, generator())
    assert {theirs: ours for ours, theirs in assignment(reverse).items()} == assignment(table)
    bridged = match_heads(small, to_transformer_lens(small), TOKENS, generator())
    assert all(ours == theirs for ours, theirs in assignment(bridged).items())
    np.testing.assert_allclose(bridged[bridged["matched"]]["value"], 1.0, atol=1e-5)


def test_what_has_no_heads_or_cannot_be_shuffled_is_refused() -> None:
    with pytest.raises(MechdistillError, match="no attention heads"):
        match_heads(transformer(), Bigram(d_vocab=12, n_ctx=16), TOKENS, generator())
    with pytest.raises(MechdistillError, match="two or more"):
        match_heads(transformer(), transformer(), TOKENS[:1], generator())


def test_an_experiment_matches_students_with_teachers_and_twins(
    trained: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_match, "UNTRAINED", 19)
    table = md.match_heads(trained)
    pairs = table.drop_duplicates(["run", "other"])[["run", "other", "relation"]]
    assert pairs.to_numpy().tolist() == [
        ["dpt/seed-0", "teachers/young/seed-0", "teacher"],
        ["dpt/seed-0", "spt/seed-0", "twin"],
    ]
    whole = table[table["layer"].isna()]
    assert whole["p"].between(1 / 20, 1).all()
    pd.testing.assert_frame_equal(md.match_heads(trained), table)
    spt, dpt = trained.run("spt/seed-0"), trained.run("dpt/seed-0")
    start = md.match_heads(dpt, spt, 0)
    assert (start[start["matched"]]["value"] > 1 - 1e-5).all(), "twins start from the same weights"
    for pair, rows in table.dropna(subset="layer").groupby("relation"):
        if pair == "teacher":
            assert rows["initial"].isna().all()
        else:
            keys = ["layer", "head", "other_layer", "other_head"]
            at_start = start.set_index(keys)["value"].loc[pd.MultiIndex.from_frame(rows[keys])]
            np.testing.assert_allclose(rows["initial"], at_start, atol=1e-5)
    out = mechdistill("match", trained.path, "--json", "--figure", tmp_path / "match.html")
    assert out.returncode == 0, out.stderr
    assert len(json.loads(out.stdout)["rows"]) == len(table)
    shown = mechdistill("match", dpt.path, spt.path, "--no-figure", "--checkpoint", "6")
    assert shown.returncode == 0, shown.stderr
    assert "dpt/seed-0 @6 with spt/seed-0 @6" in shown.stdout
    for wrong, said in (
        ((dpt.path,), f"{dpt.path}: is one run; give another one"),
        ((dpt.path, trained.path), f"{trained.path}: is an experiment; two runs"),
        ((dpt.path, spt.path, "--checkpoint", "7"), "has no checkpoint 7"),
        ((dpt.path, spt.path, "--checkpoint", "all"), "give 'last' or a step"),
    ):
        refused = mechdistill("match", *wrong, "--no-figure")
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_a_clamped_head_takes_no_null_from_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its untrained namesake attends exactly as it does, so that no head would ever be beyond such networks' best."""
    monkeypatch.setattr(_match, "UNTRAINED", 19)
    clamped = {"model": {"clamps": [{"head": "L0H0", "pattern": "previous-token"}]}}
    arms = only({"spt": clamped, "smooth": {"label_smoothing": 0.1, **clamped}})
    train(micro(arms=arms), tmp_path / "x")
    found = md.load(tmp_path / "x")
    assert isinstance(found, Experiment)
    with pytest.raises(MechdistillError, match="has no checkpoint 999"):
        md.match_heads(found, checkpoint=999)
    table = md.match_heads(found)
    rows = table[table["matched"] & table["layer"].notna()]
    assert (rows["untrained"] < 0.9).all()
    assert rows["p"].min() == pytest.approx(1 / 20)


def test_the_figure_outlines_each_match_once() -> None:
    model = transformer(n_heads=3, d_head=6)
    about = {"run": "a/seed-0", "arm": "a", "seed": 0, "step": 1, "other": "b<b>", "other_step": 2}
    table = match_heads(model, permuted(model, [[2, 0, 1], [0, 1, 2]]), TOKENS, generator(), untrained(19))
    figure = matching_figure(table.assign(**about))
    assert figure is not None
    assert [(round(box.x0 + 0.46), round(box.y0 + 0.46)) for box in figure.layout.shapes] == [
        (1, 0), (2, 1), (0, 2), (3, 3), (4, 4), (5, 5)
    ]  # fmt: skip
    assert {box.line.dash for box in figure.layout.shapes} == {"solid"}
    assert "<b>" not in figure.layout.annotations[0].text
    assert matching_figure(table.assign(**about)[:0]) is None
