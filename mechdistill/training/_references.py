"""The models behind checkpoint teachers: where they lie, whether they fit, and which of their checkpoints is meant."""

from pathlib import Path

from mechdistill.config import CheckpointTeacher, RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.model import Model
from mechdistill.runs import Run, load

_NEAR = 0.05  # how far from a fraction of a teacher's training its checkpoint may be, so that a stage is what it says


def trained_model(root: Path, config: RunConfig, name: str, fraction: float) -> Model:
    """The model of one of a run's checkpoint teachers, after a fraction of its training (1: its last checkpoint)."""
    teacher = config.teachers[name]
    assert isinstance(teacher, CheckpointTeacher)
    if teacher.run is not None:
        return Run(Path(teacher.run)).model("last" if teacher.step is None else teacher.step)
    run = Run(root / config.teacher_path(name))
    last = run.resolve("last")
    nearest = min(run.steps, key=lambda step: abs(step - fraction * last))
    if abs(nearest - fraction * last) > _NEAR * last:
        raise MechdistillError(
            f"teachers.{name}: has no checkpoint near step {fraction * last:g} of {last} (the nearest is {nearest}), "
            f"which a progressive teacher needs; lower teachers.{name}.training.checkpoint_every"
        )
    return run.model(nearest)


def check_references(config: RunConfig) -> None:
    """Raise `MechdistillError` if an earlier run named as a teacher is not there or does not fit the student."""
    for name, teacher in config.teachers.items():
        if not isinstance(teacher, CheckpointTeacher) or teacher.run is None:
            continue
        where = f"teachers.{name}.run={teacher.run}"
        run = load(teacher.run)
        if not isinstance(run, Run):
            raise MechdistillError(f"{where}: is an experiment; name one of its runs, like {teacher.run}/spt/seed-0")
        theirs, ours = run.config.sandbox, config.sandbox
        if not theirs.is_world_of(ours) or theirs.seq_len < ours.seq_len:
            raise MechdistillError(
                f"{where}: was trained in another sandbox, or on shorter sequences; name another run"
            )
        if run.status["state"] != "finished":
            raise MechdistillError(
                f"{where}: is {run.status['state']}, so that its checkpoints may still change; let it finish first"
            )
        run.resolve("last" if teacher.step is None else teacher.step)
