"""Applying measures to a run's checkpoints, each result cached as a table beside the weights it came from.

The functions mirror the commands: `induction_scores(run)` is `mechdistill induction-scores DIR`.
"""

import hashlib
import json
import warnings
from collections.abc import Callable
from typing import Literal

import pandas as pd
import torch

from mechdistill import circuits, evals
from mechdistill.errors import MechdistillError
from mechdistill.positions import HELD_OUT, EvaluationSet, predict
from mechdistill.runs import Experiment, Run
from mechdistill.tables import RUN_COLUMNS, TABLES, with_run

Checkpoint = int | Literal["last", "all"]

_PROBE_SEED = 0  # of probe sequences and random subspaces: the same for every run, so that runs compare
_VERSION = 1  # of the measures below; raise it when one changes what it computes


def induction_scores(target: Run | Experiment, checkpoint: Checkpoint = "last", *, fresh: bool = False) -> pd.DataFrame:
    """Every head score at the chosen checkpoints, with chance, nulls and the untrained twin's score beside it.

    See `circuits.head_scores` and the registry `circuits.SCORES` for definitions; `fresh` ignores cached tables.
    """
    return _for_each(target, checkpoint, lambda run, step: _scores(run, step, fresh=fresh), heads=True)


def row_curves(target: Run | Experiment, checkpoint: Checkpoint = "all", *, fresh: bool = False) -> pd.DataFrame:
    """How well each row of the transition matrix is learned, and copying by occurrence; see `evals.row_curves`.

    Runs that are taught by more than plain labels, with an objective that stays the same, also have `floor`, what it
    asks for at each row, as measured when they started (`evals.describe_targets`).
    """

    def measure(run: Run, step: int) -> pd.DataFrame:
        return evals.row_curves(predict(run.model(step), EvaluationSet.held_out(run.sandbox, HELD_OUT)))

    def with_floor(run: Run, step: int) -> pd.DataFrame:
        curves, targets = _cached(run, step, "row-curves", measure, fresh=fresh), run.targets()
        if targets is None:
            return curves
        floor = _of_run(targets[targets["metric"] == "floor"], run, step)
        return pd.concat([curves, floor], ignore_index=True)

    return _for_each(target, checkpoint, with_floor)


def ablate(target: Run | Experiment, checkpoint: Checkpoint = "last", *, fresh: bool = False) -> pd.DataFrame:
    """What knocking out each head and the copy circuit costs; see `circuits.ablate`."""

    def measure(run: Run, step: int) -> pd.DataFrame:
        model, data = run.model(step), EvaluationSet.held_out(run.sandbox, HELD_OUT)
        circuit = circuits.copy_circuit(_scores(run, step, fresh=fresh))
        return circuits.ablate(model, data, circuit, torch.Generator().manual_seed(_PROBE_SEED))

    return _for_each(
        target, checkpoint, lambda run, step: _cached(run, step, "ablate", measure, fresh=fresh), heads=True
    )


def _scores(run: Run, step: int, *, fresh: bool) -> pd.DataFrame:
    def measure(run: Run, step: int) -> pd.DataFrame:
        return circuits.head_scores(run.model(step), run.sandbox, torch.Generator().manual_seed(_PROBE_SEED))

    trained = _cached(run, step, "induction-scores", measure, fresh=fresh)
    if 0 not in run.steps:
        return trained
    untrained = trained if step == 0 else _cached(run, 0, "induction-scores", measure, fresh=fresh)
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
        "sequences": HELD_OUT,
        "probe_seed": _PROBE_SEED,
        "run": run.name,
        "step": step,
        "weights": run.weights_digest(step),
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    columns = [column.name for column in (*RUN_COLUMNS, *TABLES[table])]
    return run.cached(table, key, columns, lambda: _of_run(measure(run, step), run, step), fresh=fresh)


def _of_run(table: pd.DataFrame, run: Run, step: int) -> pd.DataFrame:
    tokens = run.tokens_at(step)
    return with_run(table, run=run.name, arm=run.config.arm, seed=run.config.seed, step=step, tokens=tokens)


def _for_each(
    target: Run | Experiment,
    checkpoint: Checkpoint,
    measure: Callable[[Run, int], pd.DataFrame],
    *,
    heads: bool = False,
) -> pd.DataFrame:
    """The measure's tables of all chosen checkpoints, stacked.

    In an experiment, runs that lack the checkpoint (or, with `heads`, have no attention heads) are left out with a
    warning. Raises `MechdistillError` where nothing is left, or a single run lacks it.
    """
    if isinstance(target, Run):
        return _stacked(target, checkpoint, measure)
    tables: list[pd.DataFrame] = []
    left_out: list[str] = []
    for run in target.runs:
        if heads and run.config.model.kind == "bigram":
            left_out.append(f"{run.name} has no heads")
        elif not run.steps or (isinstance(checkpoint, int) and checkpoint not in run.steps):
            left_out.append(f"{run.name} has no checkpoint {checkpoint}")
        else:
            tables.append(_stacked(run, checkpoint, measure))
    if not tables:
        reasons = "; ".join(left_out) or "no run has been started"
        raise MechdistillError(f"{target.path}: nothing to measure ({reasons}); train it, or choose another checkpoint")
    for reason in left_out:
        warnings.warn(f"left out: {reason}", stacklevel=3)
    return pd.concat(tables, ignore_index=True)


def _stacked(run: Run, checkpoint: Checkpoint, measure: Callable[[Run, int], pd.DataFrame]) -> pd.DataFrame:
    last = run.resolve("last" if checkpoint == "all" else checkpoint)  # raises where there is no checkpoint at all
    steps = run.steps if checkpoint == "all" else [last]
    return pd.concat([measure(run, step) for step in steps], ignore_index=True)
