"""Matching the heads of runs: a student with its teacher, twins with each other, or any two in one world.

`match_heads(experiment)` is `mechdistill match DIR`.
"""

import itertools
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import pandas as pd
import torch
from torch import Tensor

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.analysis._arms import arms
from mechdistill.analysis._progress import progress
from mechdistill.circuits import Shapes, Similarity, matches, shapes
from mechdistill.config import hashed_seed
from mechdistill.errors import MechdistillError
from mechdistill.model import build
from mechdistill.runs import Experiment, Run, Step
from mechdistill.subject import PROBE_SEED
from mechdistill.tables import MATCHES, frame, with_arms, with_run

SEQUENCES, UNTRAINED = 32, 99
TEACHER, TWIN, CHOSEN = "teacher", "twin", "chosen"


class _Pair(NamedTuple):
    """Two runs whose heads are matched."""

    run: Run
    other: Run
    relation: str

    def __str__(self) -> str:
        return f"{self.run.name} with {self.other.name}"


@neutral()
def match_heads(
    first: Run | Experiment, second: Run | Experiment | None = None, checkpoint: Step = "last"
) -> pd.DataFrame:
    """Whose heads do what whose heads do: the `matches` table of two runs, or of every pair of an experiment.

    The pairs of an experiment are each finished student with the checkpoint teachers that it is taught by, at the
    teacher's last step, and twins (students of one seed) with each other, at the same step: 'last' is the last of the
    shorter one. Twins start from the same weights, so that heads that match may only have kept what they had: `initial`
    is the similarity of the two at step 0, which no other null knows of. Heads are matched by their patterns in 32
    held-out sequences; see `circuits.match_heads` for the similarity in [-1, 1], the assignment, and what stands beside
    it: what 99 untrained networks of the other's shape would give, shuffled sequences, and permuted labels.

    Raises `MechdistillError` for two runs of different worlds, and where there is nothing to match; in an experiment
    such pairs are left out with a warning.
    """
    pairs = _pairs(first, second)
    usable: list[_Pair] = []
    unusable: dict[str, list[_Pair]] = {}
    for pair in pairs:
        lacking = _lacking(pair, checkpoint)
        if lacking is None:
            usable.append(pair)
        elif len(pairs) > 1:
            unusable.setdefault(lacking, []).append(pair)
        else:
            raise MechdistillError(f"{pair}: {lacking}")
    if not usable:
        why = next(iter(unusable), "has no pair of a student and its teacher, or of twins, with heads")
        raise MechdistillError(f"{first.path}: nothing to match: {why}")
    for why, of_why in unusable.items():
        others = f", and {len(of_why) - 1} more" if len(of_why) > 1 else ""
        warnings.warn(f"left out: {of_why[0]}{others}: {why}", stacklevel=3)
    session = _Session(usable, checkpoint)
    with progress("match", len(usable)) as advance:
        tables: list[pd.DataFrame] = []
        for pair in usable:
            tables.append(session.table(pair))
            advance(str(pair))
    return with_arms(pd.concat(tables, ignore_index=True), arms(first))


def _pairs(first: Any, second: Any) -> list[_Pair]:
    if second is None:
        arguments.instance(first, "first", Experiment, "must be an experiment, or give a second run to match it with")
        return _within(first)
    for name, run in (("first", first), ("second", second)):
        arguments.instance(run, name, Run, "must be a run, like md.load(path).run('spt/seed-0')")
    return [_Pair(first, second, CHOSEN)]


def _within(experiment: Experiment) -> list[_Pair]:
    runs = [run for run in experiment.runs if run.config.model.has_heads and run.steps]
    by_path = {run.config.path: run for run in runs}
    students = [run for run in runs if not run.config.is_teacher]
    pairs = [
        _Pair(run, by_path[path], TEACHER)
        for run in students
        for path in run.config.needs
        if path in by_path and path != run.config.trunk_path
    ]
    twins = [
        _Pair(other, run, TWIN)  # an arm with the ones before it, so that a baseline is what others are matched with
        for run, other in itertools.combinations(students, 2)
        if run.config.seed == other.config.seed
    ]
    return sorted(pairs + twins, key=lambda pair: pair.run.config.seed)


def _lacking(pair: _Pair, checkpoint: Step) -> str | None:
    """Why two runs cannot be matched, or None."""
    for run in pair[:2]:
        if not run.config.model.has_heads:
            return f"{run.name} has no heads"
    if pair.run.config.sandbox != pair.other.config.sandbox:
        return "are of different worlds, so no sequences are both's; choose runs of one"
    if pair.relation != CHOSEN and any(run.status["state"] != "finished" for run in pair[:2]):
        return "are not both finished; train them to their ends"
    step = None if isinstance(checkpoint, str) else arguments.whole(checkpoint, "step")
    if pair.relation == TWIN and step is None:
        step = _steps(pair, checkpoint)[0]
    for run in (pair.run,) if pair.relation == TEACHER else pair[:2]:
        if step is not None and step not in run.steps:
            return f"{run.name} has no checkpoint {step}"
    return None


def _steps(pair: _Pair, checkpoint: Step) -> tuple[int, int]:
    """At which steps the two are looked at."""
    run, other = pair[:2]
    if pair.relation == TWIN and isinstance(checkpoint, str):
        step = min(run.resolve(checkpoint), other.resolve(checkpoint))
        return step, step
    return run.resolve(checkpoint), other.resolve("last" if pair.relation == TEACHER else checkpoint)


class _Session:
    """One call, in which each checkpoint is looked at once, and each untrained network."""

    def __init__(self, pairs: list[_Pair], checkpoint: Step):
        self._checkpoint: Step = checkpoint
        self._shapes: dict[tuple[str, int], Shapes] = {}
        self._untrained: dict[tuple[str, int, str], list[Similarity]] = {}
        for kind, others in itertools.groupby(sorted(pairs, key=_kind), key=_kind):
            alike = list(others)
            at = {(str(pair.run.path), _steps(pair, checkpoint)[0]): pair.run for pair in alike}
            ours = {key: self._of(run, key[1]) for key, run in at.items()}
            for naive in _untrained(alike[0].other):
                for key, each in ours.items():
                    self._untrained.setdefault((*key, kind), []).append(each.similarity(naive))

    def table(self, pair: _Pair) -> pd.DataFrame:
        """The matches of a pair, with the columns of its runs."""
        run, other, relation = pair
        step, other_step = _steps(pair, self._checkpoint)
        null = self._untrained[str(run.path), step, _kind(pair)]
        generator = torch.Generator().manual_seed(PROBE_SEED)
        table = matches(self._of(run, step), self._of(other, other_step), null, generator)
        table = table.assign(
            other=other.name, other_step=other_step, relation=relation, initial=self._initial(pair, table)
        )
        about, rows = run.config, cast(list[dict[str, Any]], table.to_dict("records"))
        who: dict[str, Any] = {"run": run.name, "arm": about.treatment, "seed": about.seed}
        return with_run(frame(MATCHES, rows), **who, step=step, tokens=run.tokens_at(step))

    def _initial(self, pair: _Pair, table: pd.DataFrame) -> pd.Series | None:
        """Of twins, the similarity of every two heads at step 0, and the mean over matched ones."""
        if pair.relation != TWIN or not (0 in pair.run.steps and 0 in pair.other.steps):
            return None
        first, second = (self._of(run, 0) for run in pair[:2])
        pairs = table.dropna(subset="layer")
        mine = (pairs["layer"] * first.per_layer + pairs["head"]).astype(int)
        theirs = (pairs["other_layer"] * second.per_layer + pairs["other_head"]).astype(int)
        found = pd.Series(first.similarity(second)[mine, theirs], pairs.index)
        return found.reindex(table.index).fillna(found[pairs["matched"].astype(bool)].mean())

    def _of(self, run: Run, step: int) -> Shapes:
        key = (str(run.path), step)
        if key not in self._shapes:
            self._shapes[key] = shapes(run.model(step), _tokens(run))
        return self._shapes[key]


def _kind(pair: _Pair) -> str:
    """What the untrained networks hang on that its matches are held against."""
    return f"{pair.other.config.model.model_dump_json()} {pair.other.config.sandbox.model_dump_json()}"


def _untrained(run: Run) -> Iterator[Shapes]:
    """What networks of a run's shape attend to that nobody has trained or clamped, one after another."""
    shape = run.config.model.model_copy(update={"clamps": ()})
    for n in range(UNTRAINED):
        seed = hashed_seed(f"untrained:{n}")
        model = build(shape, d_vocab=run.world.vocab, n_ctx=run.world.seq_len, init_seed=seed)
        yield shapes(model, _tokens(run))


def _tokens(run: Run) -> Tensor:
    return run.world.evaluation(SEQUENCES).tokens[:, : run.world.seq_len]
