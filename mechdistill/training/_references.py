"""What a run needs of others: models of checkpoint teachers and warm starts, whether they fit, and which checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mechdistill.config import CheckpointTeacher, RunConfig, WarmStart, check_shapes
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
    """Raise `MechdistillError` if a run cannot get the models that it needs, as far as that is known
    beforehand: those of its teachers, and the one that it begins with.

    Earlier runs must be there, finished, of the student's world and sound; `others` are the runs of the experiment
    under `root`, whose teachers must have the checkpoints that a student needs, or get them in training.
    """
    _check_start(root, config, others)
    for name, teacher in config.teachers.items():
        if not isinstance(teacher, CheckpointTeacher):
            continue
        if teacher.run is not None:
            _check_earlier_teacher(f"teachers.{name}", teacher, config)
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


def _check_earlier_teacher(where: str, teacher: CheckpointTeacher, config: RunConfig) -> None:
    assert teacher.run is not None
    step = "last" if teacher.step is None else teacher.step
    named, where = f"{where}.step={step}", f"{where}.run={teacher.run}"
    run = _one_run(where, teacher.run)
    theirs, ours = run.config.sandbox, config.sandbox
    if theirs.vocab != ours.vocab:
        raise MechdistillError(f"{where}: knows {theirs.vocab} tokens, the student {ours.vocab}; name another run")
    if not theirs.is_world_of(ours) or theirs.seq_len < ours.seq_len:
        raise MechdistillError(f"{where}: was trained in another sandbox, or on shorter sequences; name another run")
    _refuse_unfinished(where, run)
    if step != "last" and step not in run.steps:
        near = min(run.steps, key=lambda known: abs(known - step), default="none")
        raise MechdistillError(f"{named}: {teacher.run} has no checkpoint there; the nearest is {near}")
    run.model(step)  # raises where it is damaged


def _check_start(root: Path, config: RunConfig, others: Mapping[PurePosixPath, RunConfig]) -> None:
    """Raise `MechdistillError` if a run cannot begin where it should, as far as that is known beforehand."""
    start, path = config.start, config.start_path
    if start is None:
        return
    if path is None:
        _check_earlier_start(config, start)
    elif RunWriter(root, others[path]).status["state"] == "finished":
        _refuse_absent(f"arms.{config.treatment}.init.arm={start.arm}", start, Run(root / path).steps)
    elif start.step != "last" and others[path].training.burst is None:  # whose windows nobody knows beforehand
        branch = others[path].branch
        first = branch.start if branch else 0
        there = [step for step in checkpoints_near(others[path], start.step) if step >= first]
        _refuse_absent(f"arms.{config.treatment}.init.arm={start.arm}", start, there)


def _refuse_absent(where: str, start: WarmStart, steps: list[int]) -> None:
    if start.step != "last" and start.step not in steps:
        wanted = start.step
        near = min(steps, key=lambda known: abs(known - wanted), default="none")
        raise MechdistillError(
            f"{where}, step={wanted}: there is no checkpoint; the nearest is {near}; choose that, or change "
            "checkpoint_every"
        )


def _check_earlier_start(config: RunConfig, start: WarmStart) -> None:
    where = f"arms.{config.treatment}.init.run={start.run}"
    run = _one_run(where, str(start.run))
    try:
        check_shapes(where, run.config.model, run.config.sandbox, config.model, config.sandbox)
    except ValueError as error:
        raise MechdistillError(str(error)) from None
    _refuse_unfinished(where, run)
    _refuse_absent(where, start, run.steps)
    run.weights(start.step)  # raises where they are damaged


def _one_run(where: str, path: str) -> Run:
    """An earlier run; raises `MechdistillError` for an experiment."""
    run = load(path)
    if not isinstance(run, Run):
        raise MechdistillError(f"{where}: is an experiment; name one of its runs, like {path}/spt/seed-0")
    return run


def _refuse_unfinished(where: str, run: Run) -> None:
    if run.status["state"] != "finished":
        raise MechdistillError(
            f"{where}: is {run.status['state']}, so that its checkpoints may still change; let it finish first"
        )
