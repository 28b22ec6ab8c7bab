"""The models behind checkpoint teachers: where they lie, whether they fit, and which of their checkpoints is meant."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mechdistill.config import CheckpointTeacher, RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.model import Model
from mechdistill.runs import Run, RunWriter, load
from mechdistill.training._hooks import checkpoints_near

_NEAR = 0.05  # how far from a fraction of a teacher's training its checkpoint may be, so that a stage is what it says


def trained_model(root: Path, config: RunConfig, name: str, fraction: float) -> Model:
    """The model of one of a run's checkpoint teachers, after a fraction of its training (1: its last checkpoint)."""
    teacher = config.teachers[name]
    assert isinstance(teacher, CheckpointTeacher)
    if teacher.run is not None:
        return Run(Path(teacher.run)).model("last" if teacher.step is None else teacher.step)
    run = Run(root / config.teacher_path(name))
    return run.model(_nearest(name, run.steps, run.resolve("last"), fraction))


def check_references(root: Path, config: RunConfig, others: Mapping[PurePosixPath, RunConfig]) -> None:
    """Raise `MechdistillError` if a run cannot get the models of its teachers, as far as that is known beforehand.

    Earlier runs must be there, finished, of the student's world and sound; `others` are the runs of the experiment
    under `root`, whose teachers must have the checkpoints that a student needs, or get them in training.
    """
    for name, teacher in config.teachers.items():
        if not isinstance(teacher, CheckpointTeacher):
            continue
        if teacher.run is not None:
            _check_earlier(f"teachers.{name}", teacher, config)
            continue
        path = config.teacher_path(name)
        if RunWriter(root, others[path]).status["state"] == "finished":
            run = Run(root / path)
            last = run.resolve("last")
            for fraction in _fractions(config, name):
                _nearest(name, run.steps, last, fraction)
        elif others[path].until is None:  # else nobody knows where it will stop
            last = others[path].steps
            for fraction in _fractions(config, name):
                _nearest(name, checkpoints_near(others[path], fraction * last), last, fraction)


def _fractions(config: RunConfig, name: str) -> Iterator[float]:
    """How far along a teacher's training the checkpoints lie that a run takes its targets from."""
    yield 1.0
    for teacher in config.teachers.values():
        if name in teacher.parts:
            yield from teacher.fractions


def _nearest(name: str, steps: Sequence[int], last: int, fraction: float) -> int:
    """The checkpoint nearest to a fraction of a teacher's training; raises `MechdistillError` where none is near."""
    nearest = min(steps, key=lambda step: abs(step - fraction * last))
    if abs(nearest - fraction * last) > _NEAR * last:
        raise MechdistillError(
            f"teachers.{name}: has no checkpoint near step {fraction * last:g} of {last} (the nearest is {nearest}), "
            f"which a progressive teacher needs; lower teachers.{name}.training.checkpoint_every"
        )
    return nearest


def _check_earlier(where: str, teacher: CheckpointTeacher, config: RunConfig) -> None:
    assert teacher.run is not None
    run = load(teacher.run)
    step = "last" if teacher.step is None else teacher.step
    named, where = f"{where}.step={step}", f"{where}.run={teacher.run}"
    if not isinstance(run, Run):
        raise MechdistillError(f"{where}: is an experiment; name one of its runs, like {teacher.run}/spt/seed-0")
    theirs, ours = run.config.sandbox, config.sandbox
    if theirs.vocab != ours.vocab:
        raise MechdistillError(f"{where}: knows {theirs.vocab} tokens, the student {ours.vocab}; name another run")
    if not theirs.is_world_of(ours) or theirs.seq_len < ours.seq_len:
        raise MechdistillError(f"{where}: was trained in another sandbox, or on shorter sequences; name another run")
    if run.status["state"] != "finished":
        raise MechdistillError(
            f"{where}: is {run.status['state']}, so that its checkpoints may still change; let it finish first"
        )
    if step != "last" and step not in run.steps:
        near = min(run.steps, key=lambda known: abs(known - step), default="none")
        raise MechdistillError(f"{named}: {teacher.run} has no checkpoint there; the nearest is {near}")
    run.model(step)  # raises where it is damaged
