"""What an experiment will cost, from a few measured steps of every kind of run in it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from mechdistill.ambient import neutral
from mechdistill.config import CheckpointTeacher, ExperimentConfig, RunConfig
from mechdistill.model import Model, build
from mechdistill.runs import RunWriter
from mechdistill.training._references import trained_model
from mechdistill.training._trainer import Trainer

T = TypeVar("T")

_WARM, _TIMED = 2, 6  # steps
_START = 4.0  # seconds until the processes that run several at a time have imported torch


class Cost(NamedTuple):
    """Of some runs. A teacher that stops at its `until` is counted in full, so that time is an upper bound, and
    so is disk where a run has a burst: nobody knows beforehand how long copying forms."""

    runs: int
    tokens: int  # predictions trained on
    seconds: float  # of wall-clock time
    bytes: int  # of checkpoints


def estimate(experiment: ExperimentConfig, runs: list[RunConfig], jobs: int, device: str = "cpu") -> Cost:
    """The cost of training some runs of an experiment, so many at a time; about a second a kind, and nothing is kept.

    Runs that differ in seeds, tokens and learning rates only are of one kind, of which one run is measured. Untrained
    models stand in for checkpoint teachers.
    """
    seconds = size = tokens = 0.0
    known: dict[str, _Speed] = {}
    for run in runs:
        kind = _kind(run)
        if kind not in known:
            known[kind] = _measure(experiment, run, device)
        pace, training = known[kind], run.training
        steps = run.steps - (run.branch.start if run.branch else 0)
        evaluations = 2 + steps // training.evaluate_every
        checkpoints = 2 + steps // training.checkpoint_every + steps.bit_length()
        if training.burst is not None:
            checkpoints += steps // training.burst.every
        seconds += pace.setup + steps * pace.step + evaluations * pace.evaluation
        tokens += steps * training.batch * run.sandbox.seq_len
        size += checkpoints * pace.bytes
    jobs = min(jobs, max(len(runs), 1))
    return Cost(len(runs), int(tokens), seconds / jobs + _START * (jobs > 1), int(size))


class _Speed(NamedTuple):
    setup: float  # seconds
    step: float
    evaluation: float
    bytes: int  # of one checkpoint


def _kind(run: RunConfig) -> str:
    training = run.training.model_copy(update={"tokens": 1, "lr": 1, "branches": None})
    seeds = {"seed": 0, "init_seed": 0, "data_seed": 0, "teacher_seed": None}
    same = {**seeds, "treatment": "", "training": training, "branch": None, "start": None}
    return run.model_copy(update=same).model_dump_json()


def _measure(experiment: ExperimentConfig, run: RunConfig, device: str) -> _Speed:
    def untrained(name: str, fraction: float) -> Model:
        teacher = run.teachers[name]
        assert isinstance(teacher, CheckpointTeacher)
        if not teacher.is_trained_here:
            return trained_model(Path(), run, name, fraction)
        sandbox = experiment.teacher_sandbox(name)
        return build(experiment.teacher_model(name), d_vocab=sandbox.vocab, n_ctx=sandbox.seq_len, init_seed=1)

    with neutral():
        # as if it began at random weights: a trunk or start is not trained yet, and steps are as fast
        whole = run.model_copy(update={"branch": None, "start": None})
        nowhere = RunWriter(Path(), whole)  # neither a step nor an evaluation writes
        setup, trainer = _timed(lambda: Trainer(whole, nowhere, device, untrained))
        _timed(lambda: [trainer.train_step() for _ in range(_WARM)])
        steps, _ = _timed(lambda: [trainer.train_step() for _ in range(_TIMED)])
        evaluation, _ = _timed(trainer.held_out)
    bytes_ = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return _Speed(setup, steps / _TIMED, evaluation, bytes_)


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result
