"""How often is a copy circuit named where there is none? Models that cannot have one, scored as any other is.

    python -m analyses.false_positives runs/false-positives     # trains 20 models, and prints the rates

Three kinds: untrained models; models trained where nothing can be copied, since the world has no triggers; and models
of one layer, in which no head can read what an earlier one has written. All are scored in the world with triggers:
where there is nothing to look up, nothing can be named, and a rate of 0 would mean nothing. One-layer models may look
up without matching; a circuit takes both halves.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scipy.stats import binomtest

from mechdistill.circuits import copy_circuit, head_scores
from mechdistill.config import ExperimentConfig, load_experiment
from mechdistill.model import Model, build
from mechdistill.runs import Experiment, load
from mechdistill.sandbox import Sandbox
from mechdistill.subject import PROBE_SEED
from mechdistill.training import train

UNTRAINED, TRAINED = 160, 10
"""Of each kind; so many that none among them all keeps the rate below 2 % (exact, one-sided, 95 %)."""
KINDS: dict[str, dict[str, Any]] = {
    "no-triggers": {"sandbox.triggers.count": 0},
    "one-layer": {"model.n_layers": 1},
}
"""Settings of the trained kinds, beside the default preset's."""


def experiment_of(kind: str, seeds: int) -> ExperimentConfig:
    """The default preset's spt arm under a kind's settings."""
    settings = {"name": kind, "arms": "{spt: {alpha: 0.0}}", "teachers": "{}", "seeds": list(range(seeds))}
    return load_experiment(settings=[f"{key}={value}" for key, value in (settings | KINDS[kind]).items()])


def models(folder: Path, untrained: int, trained: int) -> Iterator[tuple[str, int, Model]]:
    """(kind, seed, model) of all that have no circuit."""
    default = load_experiment()
    vocab, n_ctx = default.sandbox.vocab, default.sandbox.seq_len
    for seed in range(untrained):
        yield "untrained", seed, build(default.model, d_vocab=vocab, n_ctx=n_ctx, init_seed=seed)
    for kind in KINDS:
        train(experiment_of(kind, trained), folder / kind)
        experiment = load(folder / kind)
        assert isinstance(experiment, Experiment)
        for run in experiment.runs:
            yield kind, run.config.seed, run.model("last")


def named(folder: Path, untrained: int = UNTRAINED, trained: int = TRAINED) -> pd.DataFrame:
    """One row a model: the heads that each half of a circuit was said to have."""
    world = Sandbox(load_experiment().sandbox)
    rows: list[dict[str, Any]] = []
    for kind, seed, model in models(folder, untrained, trained):
        scores = head_scores(model, world, torch.Generator().manual_seed(PROBE_SEED))
        circuit = copy_circuit(scores)
        halves = {"lookup": len(circuit.lookup), "previous_token": len(circuit.previous_token)}
        rows.append({"kind": kind, "seed": seed, **halves, "circuit": all(halves.values())})
    return pd.DataFrame(rows)


def main() -> None:
    """Print how many models of each kind have a half named, and how many a circuit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the trained models lie")
    table = named(parser.parse_args().folder)
    halves = table.assign(lookup=table["lookup"] > 0, previous_token=table["previous_token"] > 0)
    print(halves.groupby("kind", sort=False)[["lookup", "previous_token", "circuit"]].agg(["sum", "count"]))
    found = binomtest(int(table["circuit"].sum()), len(table), alternative="less")
    high = found.proportion_ci(0.95, method="exact").high
    print(f"circuits named: {found.k} of {found.n}; the rate is at most {high:.2%} (exact, one-sided, 95 %)")


if __name__ == "__main__":
    main()
