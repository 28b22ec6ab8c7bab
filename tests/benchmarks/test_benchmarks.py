"""The benchmarks run, and compare like with like; what they measure is printed by `make bench`, never asserted."""

import pandas as pd
import pytest
import torch

from mechdistill.circuits import ABLATIONS, CopyCircuit, ablate
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet
from tests.benchmarks.__main__ import PAIRS
from tests.benchmarks.pairs import default_run
from tests.benchmarks.reference import PlainTransformer, ablation_loop, choice_loop
from tests.helpers import transformer, world


@pytest.mark.slow
def test_every_pair_gives_a_ratio() -> None:
    for name, (pair, _, _) in PAIRS.items():
        ratios = pair(1, 2)
        assert len(ratios) == 1, name
        assert ratios[0] > 0, name


def test_the_plain_model_has_the_same_parameters() -> None:
    run = default_run(1)
    shape = {"d_vocab": run.sandbox.vocab, "n_ctx": run.sandbox.seq_len}
    ours, plain = Transformer(run.model, **shape), PlainTransformer(run.model, **shape)
    count = [sum(p.numel() for p in model.parameters()) for model in (ours, plain)]
    assert count[0] == count[1]
    tokens = torch.zeros(2, 5, dtype=torch.long)
    assert plain(tokens).shape == ours(tokens).shape


def test_the_ablation_loop_finds_what_the_sweep_finds() -> None:
    sandbox = world(seq_len=24)
    model, data = transformer(d_vocab=sandbox.vocab, n_ctx=24), EvaluationSet.held_out(sandbox, 8)
    model.blocks[0].attn.W_O[0] = 0  # a head that does nothing: the intact model
    loop = torch.tensor(ablation_loop(model, data), dtype=torch.float64)
    table = ablate(model, data, CopyCircuit((), ()), torch.Generator().manual_seed(0))
    pooled = table[table["bucket"].isna()].pivot(
        index=["ablation", "layer", "head", "mode"], columns="metric", values="value"
    )
    index = pd.MultiIndex.from_product([ABLATIONS, (0, 1), (0, 1), ("full", "pattern-preserving")])
    ours = torch.tensor(pooled.loc[index][["copy-loss-delta", "bigram-kl-delta"]].to_numpy().tolist())
    torch.testing.assert_close(ours, (loop - loop[0]).float(), rtol=0, atol=1e-5)


def test_the_choice_loop_samples_the_same_world() -> None:
    sandbox = world(seq_len=64)
    sequences = choice_loop(sandbox, 50)
    for sequence in sequences:
        for trigger in sandbox.triggers:
            assert len(set(sequence[1:][sequence[:-1] == trigger])) <= 1
