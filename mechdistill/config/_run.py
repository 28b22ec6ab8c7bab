"""One run: everything that determines its bits. An experiment expands into these, teachers first."""

import hashlib
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from mechdistill.config._base import Config, Name, exactly_whole
from mechdistill.config._experiment import ExperimentConfig, Treatment
from mechdistill.config._model import ModelConfig
from mechdistill.config._objective import ArmConfig
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._start import WarmStart
from mechdistill.config._trained import CheckpointTeacher
from mechdistill.config._training import TrainingConfig
from mechdistill.config.teachers import TeacherEntry

TEACHER_ARM = "teacher:"


class Branch(Config):
    """Where a run leaves another one to anneal."""

    trunk: str
    """Name of the treatment that it leaves."""
    start: int
    """Steps of the trunk that are its own first ones."""
    horizon: int
    """Steps of the whole trunk, along which schedules of alpha and teachers go on."""


class RunConfig(Config):
    """A student of one arm and one seed, or one teacher's own training."""

    version: Annotated[Literal[3], BeforeValidator(exactly_whole)] = 3
    experiment: Name
    treatment: Annotated[str, Field(pattern=rf"^({TEACHER_ARM})?[A-Za-z0-9][A-Za-z0-9._-]{{0,127}}$")]
    """Its arm, and the learning rate or branch (spt-lr-x0.5); 'teacher:<name>' for a teacher's training."""
    seed: int
    """Student seed: twins share it, and so do a student and its teacher; of crossed seeds, the number of all."""
    init_seed: int
    """Seed of the initial weights."""
    data_seed: int
    """Seed of the training sequences."""
    teacher_seed: int | None = None
    """Where seeds are crossed, that of its teachers; null: the student seed."""
    sandbox: SandboxConfig
    model: ModelConfig
    training: TrainingConfig
    objective: ArmConfig
    """What it minimises."""
    teachers: dict[Name, TeacherEntry] = Field(default={})
    """Definitions of its teacher and of all that it is made of, parts first."""
    matched: ArmConfig | None = None
    """The arm whose targets its label smoothing has to be as far from the truth as."""
    until: dict[str, float] | None = None
    """Stop at the first look that reaches this value."""
    branch: Branch | None = None
    """What it branches off, if it does."""
    start: WarmStart | None = None
    """The checkpoint that it begins at; null: weights drawn from the init seed."""

    @property
    def path(self) -> PurePosixPath:
        """Where the run lies inside its experiment."""
        folder = PurePosixPath("teachers", self.treatment.removeprefix(TEACHER_ARM))
        return (folder if self.is_teacher else PurePosixPath(self.treatment)) / f"seed-{self.seed}"

    @property
    def is_teacher(self) -> bool:
        """Whether this is a teacher's own training."""
        return self.treatment.startswith(TEACHER_ARM)

    @property
    def taught_by(self) -> int:
        """The seed of all that is random about its teachers, draws from their laws aside."""
        return self.seed if self.teacher_seed is None else self.teacher_seed

    def teacher_path(self, name: str) -> PurePosixPath:
        """Where the run lies that trains one of its checkpoint teachers."""
        teacher = self.teachers[name]
        assert isinstance(teacher, CheckpointTeacher)
        seed = self.taught_by if teacher.seed == "per-student" else teacher.seed
        return PurePosixPath("teachers", name, f"seed-{seed}")

    @property
    def needs(self) -> tuple[PurePosixPath, ...]:
        """Runs of this experiment that have to be finished before this one can start."""
        return (*self.teacher_paths, *(path for path in (self.trunk_path, self.start_path) if path is not None))

    @property
    def teacher_paths(self) -> tuple[PurePosixPath, ...]:
        """Where the runs lie that train its checkpoint teachers in this experiment."""
        return tuple(
            self.teacher_path(name)
            for name, teacher in self.teachers.items()
            if isinstance(teacher, CheckpointTeacher) and teacher.is_trained_here
        )

    @property
    def start_path(self) -> PurePosixPath | None:
        """Where the run of this experiment lies that it begins at a checkpoint of."""
        return PurePosixPath(self.start.arm, f"seed-{self.seed}") if self.start and self.start.arm else None

    @property
    def trunk_path(self) -> PurePosixPath | None:
        """Where the run lies that it branches off."""
        return PurePosixPath(self.branch.trunk, f"seed-{self.seed}") if self.branch else None

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole budget."""
        return self.training.steps(self.sandbox.seq_len)

    @property
    def branch_points(self) -> tuple[int, ...]:
        """Of a trunk: the steps at which branches leave it."""
        if self.branch is not None:
            return ()
        return tuple(_branch_start(tokens, self.training, self.sandbox) for tokens in self.training.branches or ())

    @property
    def horizon(self) -> int:
        """Steps along which schedules of alpha and teachers run: its own, or its trunk's."""
        return self.branch.horizon if self.branch else self.steps


def _branch_start(tokens: int, training: TrainingConfig, sandbox: SandboxConfig) -> int:
    """The step at which the branch that ends after `tokens` has to leave its trunk."""
    return training.steps(sandbox.seq_len, tokens) - training.annealed(sandbox.seq_len, tokens)


def expand(experiment: ExperimentConfig) -> list[RunConfig]:
    """The runs of an experiment in an order in which every teacher precedes its students.

    A student of seed n draws weights and data from seed n whatever its arm, so twins differ in the treatment only. A
    teacher draws both from seeds hashed from its name and n: it is nobody's twin, and its data are fresh
    (unless it asks for its student's own). Where seeds are crossed each of the three has its own. An arm that begins at
    a checkpoint of another comes after it.
    """
    teachers: dict[PurePosixPath, RunConfig] = {}
    students: list[RunConfig] = []
    treatments = _in_order(experiment)
    for seeds in experiment.combinations:
        for treatment in treatments:
            name, trunk = treatment.arm, treatment.trunk
            sandbox = experiment.arm_sandbox(name)
            branch = None
            if trunk is not None:
                start = _branch_start(treatment.training.tokens, treatment.training, sandbox)
                horizon = trunk.training.steps(sandbox.seq_len)
                branch = Branch(trunk=trunk.name, start=start, horizon=horizon)
            student = RunConfig(
                experiment=experiment.name,
                treatment=treatment.name,
                seed=seeds.student,
                init_seed=seeds.init,
                data_seed=seeds.data,
                teacher_seed=seeds.teacher,
                sandbox=sandbox,
                model=experiment.arm_model(name),
                training=treatment.training,
                objective=_bare(experiment.arms[name]),
                teachers=experiment.arm_teachers(name),
                matched=_bare(matched) if (matched := experiment.matched(name)) else None,
                branch=branch,
                start=experiment.arms[name].init,
            )
            students.append(student)
            for path in student.teacher_paths:
                if path not in teachers:
                    teachers[path] = _teacher_run(experiment, path)
    return [*teachers.values(), *students]


def _in_order(experiment: ExperimentConfig) -> list[Treatment]:
    """Treatments as they are named, but behind those that they begin at a checkpoint of."""
    known = {treatment.name: treatment for treatment in experiment.treatments()}

    def depth(arm: str) -> int:
        start = experiment.arms[arm].init
        return 1 + depth(known[start.arm].arm) if start is not None and start.arm is not None else 0

    return sorted(known.values(), key=lambda treatment: depth(treatment.arm))


def _bare(arm: ArmConfig) -> ArmConfig:
    """An arm without its start and its overrides, which a run has applied."""
    return arm.model_copy(update={"init": None, "training": None, "model": None, "sandbox": None})


def _teacher_run(experiment: ExperimentConfig, path: PurePosixPath) -> RunConfig:
    name, seed = path.parent.name, int(path.name.removeprefix("seed-"))
    definition = experiment.teachers[name]
    assert isinstance(definition, CheckpointTeacher)
    return RunConfig(
        experiment=experiment.name,
        treatment=f"{TEACHER_ARM}{name}",
        seed=seed,
        init_seed=hashed_seed(f"init:{name}:{seed}"),
        data_seed=seed if definition.data == "same" else hashed_seed(f"data:{name}:{seed}"),
        sandbox=experiment.teacher_sandbox(name),
        model=experiment.teacher_model(name),
        training=experiment.teacher_training(name),
        objective=ArmConfig(),
        until={str(k): v for k, v in definition.until.items()} if definition.until else None,
    )


def hashed_seed(text: str) -> int:
    """A seed in [2^31, 2^32): never one that a student can have."""
    return 2**31 + int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % 2**31
