"""Applying measures to a run's checkpoints, each result cached as a table beside the weights it came from.

The functions mirror the commands: `induction_scores(run)` is `mechdistill induction-scores DIR`.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Literal

import pandas as pd
import torch

from mechdistill import circuits, evals
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import Experiment, Run
from mechdistill.tables import TABLES, with_run

Checkpoint = int | Literal["last", "all"]

_PROBE_SEED = 0  # of probe sequences and random subspaces: the same for every run, so that runs compare
_SEQUENCES = 256  # held-out sequences behind row curves and ablations
_VERSION = 1  # of the measures below; raise it when one changes what it computes


def induction_scores(target: Run | Experiment, checkpoint: Checkpoint = "last", *, fresh: bool = False) -> pd.DataFrame:
    """Every head score at the chosen checkpoints, with chance, nulls and the untrained twin's score beside it.

    See `circuits.head_scores` and the registry `circuits.SCORES` for definitions; `fresh` ignores cached tables.
    """
    return _for_each(target, checkpoint, lambda run, step: _scores(run, step, fresh=fresh))


def row_curves(target: Run | Experiment, checkpoint: Checkpoint = "all", *, fresh: bool = False) -> pd.DataFrame:
    """How well each row of the transition matrix is learned, and copying by occurrence; see `evals.row_curves`."""

    def measure(run: Run, step: int) -> pd.DataFrame:
        return evals.row_curves(predict(run.model(step), EvaluationSet.held_out(run.sandbox, _SEQUENCES)))

    return _for_each(target, checkpoint, lambda run, step: _cached(run, step, "row-curves", measure, fresh=fresh))


def ablate(target: Run | Experiment, checkpoint: Checkpoint = "last", *, fresh: bool = False) -> pd.DataFrame:
    """What knocking out each head and the copy circuit costs; see `circuits.ablate`."""

    def measure(run: Run, step: int) -> pd.DataFrame:
        model, data = run.model(step), EvaluationSet.held_out(run.sandbox, _SEQUENCES)
        circuit = circuits.copy_circuit(_scores(run, step, fresh=fresh))
        return circuits.ablate(model, data, circuit, torch.Generator().manual_seed(_PROBE_SEED))

    return _for_each(target, checkpoint, lambda run, step: _cached(run, step, "ablate", measure, fresh=fresh))


def _scores(run: Run, step: int, *, fresh: bool) -> pd.DataFrame:
    def measure(run: Run, step: int) -> pd.DataFrame:
        return circuits.head_scores(run.model(step), run.sandbox, torch.Generator().manual_seed(_PROBE_SEED))

    trained = _cached(run, step, "induction-scores", measure, fresh=fresh)
    if 0 not in run.steps:
        return trained
    untrained = trained if step == 0 else _cached(run, 0, "induction-scores", measure, fresh=False)
    keys = ["metric", "layer", "head"]
    twin = untrained[[*keys, "value"]].rename(columns={"value": "untrained"})
    return trained.drop(columns="untrained").merge(twin, on=keys, how="left", validate="one_to_one")


def _cached(
    run: Run, step: int, table: str, measure: Callable[[Run, int], pd.DataFrame], *, fresh: bool
) -> pd.DataFrame:
    """The measure's table at a checkpoint, with the run's columns; keyed by settings, schema and the weights."""
    settings = {
        "version": _VERSION,
        "columns": [column.name for column in TABLES[table]],
        "sandbox": run.config.sandbox.model_dump(mode="json"),
        "sequences": _SEQUENCES,
        "probe_seed": _PROBE_SEED,
        "run": run.name,
        "step": step,
        "weights": run.weights_digest(step),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def compute() -> pd.DataFrame:
        return with_run(
            measure(run, step),
            run=run.name,
            arm=run.config.arm,
            seed=run.config.seed,
            step=step,
            tokens=run.tokens_at(step),
        )

    return run.cached(table, key, compute, fresh=fresh)


def _for_each(
    target: Run | Experiment, checkpoint: Checkpoint, measure: Callable[[Run, int], pd.DataFrame]
) -> pd.DataFrame:
    runs = target.runs if isinstance(target, Experiment) else [target]
    tables = [
        measure(run, step)
        for run in runs
        if run.steps or not isinstance(target, Experiment)
        for step in (run.steps if checkpoint == "all" else [run.resolve(checkpoint)])
    ]
    return pd.concat(tables, ignore_index=True)
