"""Applying a measure to a run's checkpoints, each result cached as a table beside the weights it came from.

`induction_scores(run)` is `mechdistill induction-scores DIR`, and so for every measure of `MEASURES`.
"""

import hashlib
import inspect
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import pandas as pd

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.analysis._arms import arms
from mechdistill.analysis._progress import Advance, progress
from mechdistill.analysis._source import definitions
from mechdistill.errors import MechdistillError, named, quoted
from mechdistill.positions import HELD_OUT
from mechdistill.runs import Experiment, Measured, Run, folder_of, is_ours, opened
from mechdistill.source import source_digest
from mechdistill.subject import PROBE_SEED, Subject
from mechdistill.tables import MEASURES, Measure, Need, frame, resolve, with_arms, with_run

Checkpoint = SupportsIndex | Literal["last", "all"]


@dataclass(frozen=True)
class Applied:
    """A measure as a function of a run or an experiment."""

    measure: Measure

    def __post_init__(self) -> None:
        """Say in `help` and in notebooks what it answers and gives, not what it is made of."""
        columns = "\n".join(f"    {column.name}: {column.doc}" for column in self.measure.columns)
        call = inspect.getdoc(Applied.__call__)
        object.__setattr__(
            self, "__doc__", f"{self.measure.question}\n\n{call}\n\nColumns, after the run's:\n{columns}"
        )

    @neutral()
    def __call__(self, target: Any, checkpoint: Checkpoint | None = None, *, fresh: bool = False) -> pd.DataFrame:
        """Its table at the chosen checkpoints ('last', 'all' or a step; the measure's own choice unless given).

        In an experiment, runs that lack the checkpoint or what the measure needs are left out with a warning. `fresh`
        ignores cached tables. Raises `MechdistillError` where nothing is left, or a single run lacks it.

        `target` is a run or an experiment. `induction_scores` also takes a TransformerLens bridge, a folder in Hugging
        Face's format or a model's name: one row set at step 0, without checkpoints, and never cached.
        """
        if self.measure.foreign is not None and not isinstance(target, Run | Experiment):
            return self._of_foreign(target, checkpoint)
        opened(target)
        session = _Session(fresh)
        chosen = _step(self.measure.checkpoint if checkpoint is None else checkpoint)
        if isinstance(target, Run):
            with progress(self.measure.name, len(_chosen(target, chosen))) as advance:
                return with_arms(session.stacked(self.measure, target, chosen, advance), arms(target))
        return with_arms(self._of_all(session, target, chosen), arms(target))

    def _of_foreign(self, model: Any, checkpoint: Any) -> pd.DataFrame:
        is_place = isinstance(model, str | Path)
        if is_place and os.path.lexists(model) and is_ours(model):
            raise MechdistillError(f"{named(str(model))}: is a directory of ours; open it with md.load")
        if checkpoint is not None and checkpoint != self.measure.checkpoint:
            raise MechdistillError(f"checkpoint={quoted(checkpoint)}: this model is no run, and has none; leave it out")
        table = _checked(self.measure, resolve(self.measure.foreign or "")(folder_of(model) if is_place else model))
        name = (Path(model).name or str(model)) if is_place else str(getattr(model.cfg, "model_name", "") or "model")
        return with_run(table, run=name, arm=name, seed=0, step=0, tokens=0)

    def _of_all(self, session: "_Session", target: Experiment, chosen: Checkpoint) -> pd.DataFrame:
        tables: list[pd.DataFrame] = []
        left_out: list[str] = []
        measured: list[Run] = []
        for run in target.runs:
            why = lacking(self.measure, run) or _without_checkpoint(run, chosen)
            if why:
                left_out.append(f"{run.name} {why}")
            else:
                measured.append(run)
        _name_unfinished(measured, chosen)
        with progress(self.measure.name, sum(len(_chosen(run, chosen)) for run in measured)) as advance:
            for run in measured:
                tables.append(session.stacked(self.measure, run, chosen, advance))
        if not tables:
            reasons = "; ".join(left_out) or "no run has been started"
            never = bool(target.runs) and all(lacking(self.measure, run) for run in target.runs)
            fix = "choose another measure" if never else "train it, or choose another checkpoint"
            raise MechdistillError(f"{target.path}: nothing to measure ({reasons}); {fix}")
        for reason in left_out:
            warnings.warn(f"left out: {reason}", stacklevel=3)
        return pd.concat(tables, ignore_index=True)


def measured(name: str) -> Applied:
    """The measure of a name, as a function."""
    return Applied(MEASURES[name])


def lacking(measure: Measure, run: Run) -> str | None:
    """Why a run cannot be measured, or None."""
    words: dict[Need, str] = {"heads": "has no heads", "triggers": "has no triggers", "oracle": "has no oracle"}
    has: set[Need] = {"heads"} if run.config.model.has_heads else set()
    if measure.needs - {"heads"}:  # a world takes time to make
        has |= run.world.provides
    return next((words[need] for need in sorted(measure.needs) if need not in has), None)


def _without_checkpoint(run: Run, checkpoint: Checkpoint) -> str | None:
    if not run.steps or (not isinstance(checkpoint, str) and checkpoint not in run.steps):
        return f"has no checkpoint {checkpoint}"
    return None


def _chosen(run: Run, checkpoint: Checkpoint) -> list[int]:
    """Steps to measure; raises `MechdistillError` where there is no checkpoint at all, or not the one that is named."""
    last = run.resolve("last" if isinstance(checkpoint, str) else checkpoint)  # raises where there is none at all
    return run.steps if checkpoint == "all" else [last]


def _name_unfinished(runs: list[Run], checkpoint: Checkpoint) -> None:
    """Warn where runs stand side by side of which some have not come to their end: their last steps are no twins."""
    unfinished = [run for run in runs if run.status["state"] != "finished"]
    if not isinstance(checkpoint, str) or not unfinished:
        return
    where = ", ".join(f"{run.name} at step {run.steps[-1]} of {run.config.steps}" for run in unfinished)
    common = max(set.intersection(*(set(run.steps) for run in runs)), default=None)
    hint = "" if common is None else f"; checkpoint {common} is the last that all have"
    warnings.warn(f"not finished: {where}; each run is shown at its own last step{hint}", stacklevel=4)


class _Session:
    """One call: every table is made at most once in it, also where it asks for fresh ones."""

    def __init__(self, fresh: bool):
        self._fresh = fresh
        self._made: dict[tuple[str, str, int], pd.DataFrame] = {}

    def stacked(self, measure: Measure, run: Run, checkpoint: Checkpoint, advance: Advance) -> pd.DataFrame:
        """The measure's tables of all chosen checkpoints of a run; `advance` hears of each."""
        steps = _chosen(run, checkpoint)
        why = lacking(measure, run)
        if why:
            raise MechdistillError(f"{run.path}: {why}, which {measure.name} needs; choose another run")
        tables: list[pd.DataFrame] = []
        for step in steps:
            tables.append(self.table(measure, run, step))
            advance(f"{run.name} @{step}")
        return pd.concat(tables, ignore_index=True)

    def table(self, measure: Measure, run: Run, step: int) -> pd.DataFrame:
        """A measure's table of one checkpoint, complete."""
        table = self._cached(measure, run, step)
        if measure.finish is None:
            return table
        own = [column.name for column in measure.columns]
        finished = resolve(measure.finish)(table[own], self._subject(run, step))
        return of_run(finished[own], run, step)

    def _cached(self, measure: Measure, run: Run, step: int) -> pd.DataFrame:
        where = (measure.name, str(run.path), step)
        if where not in self._made:
            self._made[where] = self._looked_up(measure, run, step)
        return self._made[where].copy()

    def _looked_up(self, measure: Measure, run: Run, step: int) -> pd.DataFrame:
        """The table of a checkpoint, keyed by all that it depends on: settings, schema, source, and the weights.

        What a notebook defines is never stored: nobody can say there what a definition depends on.
        """
        users = definitions(measure)

        def compute() -> pd.DataFrame:
            return of_run(
                _checked(measure, MEASURES.call(measure.name, resolve(measure.compute), self._subject(run, step))),
                run,
                step,
            )

        if any(origin.digest is None for origin in users.values()):
            return compute()
        depends: dict[str, Any] = {
            "measure": measure.name,
            "columns": [column.name for column in measure.columns],
            "settings": dict(measure.settings),
            "source": source_digest(),
            "definitions": {name: origin.digest for name, origin in users.items()},
            "world": run.config.sandbox.model_dump(mode="json"),
            "sequences": HELD_OUT,
            "probe_seed": PROBE_SEED,
            "run": run.name,
            "of": run.owner.identity,
            "step": step,
            "weights": run.weights_digest(step),
        }
        key = hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()[:16]
        noted = {name: str(origin.digest) for name, origin in users.items()}
        return run.cached(measure, step, key, Measured(source_digest(), noted), compute, fresh=self._fresh)

    def _subject(self, run: Run, step: int) -> Subject:
        def untrained(measure: Measure) -> pd.DataFrame | None:
            return self._cached(measure, run, 0) if 0 in run.steps else None

        return Subject(
            open_model=lambda: run.model(step),
            world=run.world,
            table=lambda measure: self.table(measure, run, step),
            untrained=untrained,
            open_targets=run.targets,
        )


def _step(checkpoint: Any) -> Checkpoint:
    """'last', 'all', or a step as a plain integer, whatever kind of integer it came as."""
    if isinstance(checkpoint, str) and checkpoint in ("last", "all"):
        return checkpoint
    try:
        return arguments.whole(checkpoint, "step")
    except MechdistillError:
        raise MechdistillError(f"checkpoint={quoted(checkpoint)}: must be 'last', 'all' or one step") from None


def _checked(measure: Measure, table: Any) -> pd.DataFrame:
    """What a measure gave, typed by its columns; raises `MechdistillError` for anything else."""
    if not isinstance(table, pd.DataFrame):
        raise MechdistillError(f"measure '{measure.name}': gave {type(table).__name__}; must be a pandas DataFrame")
    unknown = set(table.columns) - {column.name for column in measure.columns}
    if unknown:
        raise MechdistillError(f"measure '{measure.name}': gave columns {sorted(unknown)} that it does not declare")
    rows: list[Any] = table.to_dict("records")
    return frame(measure, rows)


def of_run(table: pd.DataFrame, run: Run, step: int) -> pd.DataFrame:
    """A measure's table of a checkpoint with the run's columns in front."""
    tokens = run.tokens_at(step)
    return with_run(table, run=run.name, arm=run.config.treatment, seed=run.config.seed, step=step, tokens=tokens)
