"""Scores at all checkpoints against the bare forward passes that they need."""

import torch

from mechdistill.circuits import HeadView, head_scores, probes
from mechdistill.model import build
from mechdistill.sandbox import Sandbox
from tests.benchmarks.pairs import default_run, seconds

_CHECKPOINTS = 12
_SEQUENCES = 64


def scores_against_forward(rounds: int, steps: int) -> list[float]:
    """Speed of all scores of some checkpoints over running their probes: patterns of five kinds of sequences and of the
    crossed ones, four versions each, and what heads write on the sequences of the world."""
    run = default_run(1)
    sandbox = Sandbox(run.sandbox)
    shape = {"d_vocab": run.sandbox.vocab, "n_ctx": run.sandbox.seq_len}
    models = [build(run.model, **shape, init_seed=seed) for seed in range(min(_CHECKPOINTS, steps))]
    seen = probes(sandbox, _SEQUENCES, run.sandbox.seq_len, torch.Generator().manual_seed(0))
    with_pattern = [seen.repeated, seen.control, seen.natural, seen.fourfold]
    tokens = [*(probe.tokens for probe in with_pattern), seen.fourfold.control, *[seen.natural.tokens] * 4]

    def forward() -> None:
        for model in models:
            view = HeadView(model)
            for part in tokens:
                view._run(part)
            view.outputs(seen.natural.tokens)

    ratios = []
    for _ in range(rounds):
        bare = seconds(forward)
        generator = torch.Generator().manual_seed(0)
        ratios.append(bare / seconds(lambda g=generator: [head_scores(model, sandbox, g) for model in models]))
    return ratios
