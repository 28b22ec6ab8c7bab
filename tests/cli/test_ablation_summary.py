"""What the terminal says of ablations: the primary kind, one line a head or set, controls under their half."""

import torch

from mechdistill.circuits import CopyCircuit, Head, ablate
from mechdistill.cli.summaries import ablate as summary
from mechdistill.positions import EvaluationSet
from mechdistill.tables import with_run
from tests.helpers import transformer, world


def test_one_line_a_head_or_set_and_one_column_a_number() -> None:
    sandbox = world(seq_len=24)
    model = transformer(d_vocab=sandbox.vocab, n_ctx=24, n_heads=3, d_head=8)
    circuit = CopyCircuit((Head(1, 0), Head(1, 2)), (Head(0, 1),))
    data, ranked = EvaluationSet.held_out(sandbox, 8), (Head(1, 2), Head(1, 0))
    table = ablate(model, data, circuit, torch.Generator().manual_seed(0), ranked=ranked)
    table = with_run(table.assign(step=7, tokens=1), run="spt/seed-0", arm="spt", seed=0)
    (grid,) = summary(table)
    assert "spt/seed-0 at step 7" in grid.title
    assert "zero ablation, resample ablation too" in grid.title
    assert list(grid.columns) == [
        "heads",
        "copy-loss-delta",
        "copy-loss-delta, pattern-preserving",
        "self-repair",
        "bigram-kl-delta",
    ]
    lines = [str(row[0]) for row in grid.rows]
    full = table[(table["ablation"] == "mean") & (table["mode"] == "full") & (table["metric"] == "copy-loss-delta")]
    single = full[full["what"] == "head"].sort_values("value", ascending=False)
    dearest = [f"L{layer}H{head}" for layer, head in zip(single["layer"], single["head"], strict=True)]
    assert lines[:6] == dearest
    assert lines[6:] == [
        "lookup heads (L1H0 L1H2)",
        "  removed subspace",
        "  rotated edit",
        "previous-token heads (L0H1)",
        "  outside ",
        "  removed subspace ",
        "  rotated edit ",
        "circuit heads (L0H1 L1H0 L1H2)",
        "pair heads (L1H0 L1H2)",
        "pair heads (L0H1 L1H2)",
        "pair heads (L0H1 L1H0)",
        "top-1 heads (L1H2)",
        "top-2 heads (L1H0 L1H2)",
    ]
    assert " ± " in grid.rows[7][1]
