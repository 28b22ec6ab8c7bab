"""One run: everything that determines its bits. An experiment expands into these, teachers first."""

import hashlib
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field

from mechdistill.config._base import Model, Name
from mechdistill.config._experiment import ArmConfig, CheckpointTeacher, ExperimentConfig, Teacher, TrainingConfig
from mechdistill.config._model import ModelConfig
from mechdistill.config._sandbox import SandboxConfig

TEACHER_ARM = "teacher:"


class RunConfig(Model):
    """A student of one arm and one seed, or one teacher's own training."""

    version: int = 1
    experiment: Name
    arm: Annotated[str, Field(pattern=rf"^({TEACHER_ARM})?[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}$")]
    """Name of the arm; 'teacher:<name>' for a teacher's own training."""
    seed: int
    """Student seed: twins share it, and so do a student and its teacher."""
    init_seed: int
    """Seed of the initial weights."""
    data_seed: int
    """Seed of the training sequences."""
    sandbox: SandboxConfig
    model: ModelConfig
    training: TrainingConfig
    objective: ArmConfig
    """alpha, teacher and temperature."""
    teacher: Teacher | None = None
    """The teacher's definition, if there is one."""
    until: dict[str, float] | None = None
    """Stop at the first inline evaluation that reaches this value."""

    @property
    def path(self) -> PurePosixPath:
        """Where the run lies inside its experiment."""
        folder = PurePosixPath("teachers", self.arm.removeprefix(TEACHER_ARM))
        return (folder if self.is_teacher else PurePosixPath(self.arm)) / f"seed-{self.seed}"

    @property
    def is_teacher(self) -> bool:
        """Whether this is a teacher's own training."""
        return self.arm.startswith(TEACHER_ARM)

    @property
    def teacher_path(self) -> PurePosixPath | None:
        """Where the run lies that trained this run's teacher; None if no run did."""
        if not isinstance(self.teacher, CheckpointTeacher):
            return None
        return PurePosixPath("teachers", str(self.objective.teacher), f"seed-{self.seed}")

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole budget."""
        return -(-self.training.tokens // (self.training.batch * self.sandbox.seq_len))


def expand(experiment: ExperimentConfig) -> list[RunConfig]:
    """The runs of an experiment in an order in which every teacher precedes its students.

    A student of seed n draws weights and data from seed n whatever its arm, so twins differ in the treatment only. A
    teacher draws both from seeds hashed from its name and n: it is nobody's twin, and its data are fresh.
    """
    teachers: dict[PurePosixPath, RunConfig] = {}
    students: list[RunConfig] = []
    for seed in experiment.seeds:
        for name, arm in experiment.arms.items():
            teacher = experiment.teachers[arm.teacher] if arm.teacher else None
            student = RunConfig(
                experiment=experiment.name,
                arm=name,
                seed=seed,
                init_seed=seed,
                data_seed=seed,
                sandbox=experiment.sandbox,
                model=experiment.model,
                training=experiment.arm_training(name),
                objective=arm.model_copy(update={"training": None}),
                teacher=teacher,
            )
            students.append(student)
            if student.teacher_path and student.teacher_path not in teachers:
                teachers[student.teacher_path] = _teacher_run(experiment, str(arm.teacher), seed)
    return [*teachers.values(), *students]


def _teacher_run(experiment: ExperimentConfig, name: str, seed: int) -> RunConfig:
    definition = experiment.teachers[name]
    assert isinstance(definition, CheckpointTeacher)
    return RunConfig(
        experiment=experiment.name,
        arm=f"{TEACHER_ARM}{name}",
        seed=seed,
        init_seed=_hashed_seed(f"init:{name}:{seed}"),
        data_seed=_hashed_seed(f"data:{name}:{seed}"),
        sandbox=experiment.sandbox,
        model=experiment.teacher_model(name),
        training=experiment.teacher_training(name),
        objective=ArmConfig(),
        until={str(k): v for k, v in definition.until.items()} if definition.until else None,
    )


def _hashed_seed(text: str) -> int:
    """A seed in [2^31, 2^32): never one that a student can have."""
    return 2**31 + int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 2**31
