"""The experiment file: a sandbox, a model, training, teachers, arms and seeds, and the checks across its parts.

Everything is checked here, before any directory is made.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from mechdistill.config._alike import normal_form
from mechdistill.config._base import Config, Name, exactly_whole
from mechdistill.config._divergences import ForwardKL
from mechdistill.config._meaning import check_meaning, remarks
from mechdistill.config._model import ModelConfig
from mechdistill.config._names import check_directories, check_treatments, check_written_apart, written
from mechdistill.config._objective import ArmConfig, MatchedSmoothing, OptimalAlpha
from mechdistill.config._problem import problem
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._seeds import MOST_RUNS, Combination, CrossedSeeds, Seeds, combinations
from mechdistill.config._start import WarmStart, check_shapes
from mechdistill.config._teacher import Student, TeacherConfig, closure
from mechdistill.config._trained import CheckpointTeacher
from mechdistill.config._training import TrainingConfig
from mechdistill.config.teachers import TeacherEntry
from mechdistill.errors import MechdistillError, did_you_mean, quoted

M = TypeVar("M", bound=Config)

_MOST_ENTRIES = 200  # arms, and teachers


class Treatment(NamedTuple):
    """What one run of each seed gets."""

    name: str  # of its runs' directory
    arm: str
    training: TrainingConfig
    trunk: "Treatment | None" = None  # what it branches off


class ExperimentConfig(Config):
    """Arms × seeds in one sandbox."""

    version: Annotated[Literal[1], BeforeValidator(exactly_whole)] = 1
    name: Name = "experiment"
    sandbox: SandboxConfig = SandboxConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    teachers: dict[Name, TeacherEntry] = Field(default={}, max_length=_MOST_ENTRIES)
    arms: dict[Name, ArmConfig] = Field(min_length=1, max_length=_MOST_ENTRIES)
    seeds: Seeds = (0,)
    """One for each student, of its weights, data and teacher together; or {init: 0-5, data: 0-5}: every combination."""
    lr_scales: tuple[Annotated[float, Field(gt=0, le=1000)], ...] = Field(
        default=(1.0,), min_length=1, max_length=64, strict=False
    )
    """Every arm at these multiples of its learning rate; those beside 1 are arms of their own, like spt-lr-x0.5."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for key in ("seeds", "lr_scales"):
            values = getattr(self, key)
            if not isinstance(values, CrossedSeeds) and len(set(values)) != len(values):
                raise ValueError(f"{key}={quoted(list(values))}: must not repeat a value")
        check_written_apart(self.lr_scales)
        check_directories("teachers", self.teachers)
        check_directories("arms", self.arms)
        for name, teacher in closure(list(self.teachers), self.teachers).items():
            self._check_teacher(name, teacher)
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        treatments = list(self.treatments())
        check_treatments(treatment.name for treatment in treatments)
        n_seeds = len(self.combinations)
        if len(treatments) * n_seeds > MOST_RUNS:
            raise ValueError(
                f"seeds: with {len(treatments)} arms, their rates and branches included, {n_seeds} seeds make "
                f"{len(treatments) * n_seeds} runs; must be at most {MOST_RUNS}; lower one of them"
            )
        self._check_twice(treatments)
        for name, arm in self.arms.items():
            if arm.init is not None:
                self._check_start(f"arms.{name}", name, arm.init)
        return self

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """The seeds of each student of an arm."""
        return combinations(self.seeds)

    def _check_twice(self, treatments: "list[Treatment]") -> None:
        """Raise ValueError for two arms that are the same but for their names."""
        found: dict[Any, str] = {}
        for treatment in treatments:
            arm = treatment.arm
            branch = None
            if treatment.trunk is not None:
                trunk, length = treatment.trunk.training, self.arm_sandbox(arm).seq_len
                branch = (trunk.steps(length), trunk.annealed(length, treatment.training.tokens))
            what = (
                self.arms[arm],
                self.arm_model(arm),
                self.arm_sandbox(arm),
                treatment.training,
                self.arm_teachers(arm),
                self.matched(arm),
            )
            same = found.setdefault((branch, normal_form(*what)), treatment.name)
            if same != treatment.name:
                raise ValueError(
                    f"arms.{arm}: its run {treatment.name} equals {same} in all but the name; drop one or change it"
                )

    def treatments(self) -> Iterator[Treatment]:
        """Every arm at every learning rate, and the branches of those that are trunks, trunks first."""
        for name in self.arms:
            for scale in self.lr_scales:
                training = self.arm_training(name)
                lr = {"lr": training.lr * scale}
                training = _override(training, lr, f"lr_scales={written(scale)}") if scale != 1 else training
                trunk = Treatment(name if scale == 1 else f"{name}-lr-x{written(scale)}", name, training)
                yield trunk
                for tokens in training.branches or ():
                    ending = training.model_copy(update={"tokens": tokens, "branches": (tokens,)})
                    yield Treatment(f"{trunk.name}-at-{tokens}", name, ending, trunk)

    def remarks(self) -> list[str]:
        """What is odd about it but no error, a line each."""
        return remarks({arm: (self.arm_training(arm), self.arm_sandbox(arm).seq_len) for arm in self.arms})

    def _check_teacher(self, name: str, teacher: TeacherConfig) -> None:
        where = f"teachers.{name}"
        if isinstance(teacher, CheckpointTeacher) and teacher.is_trained_here:
            if self.teacher_training(name).schedule == "trunk":
                raise ValueError(f"{where}.training.schedule=trunk: a teacher has no branches; set cosine or constant")
            self.teacher_model(name)
            sandbox = self.teacher_sandbox(name)
            try:
                self.teacher_training(name).check_steps(sandbox.seq_len)
            except ValueError as error:
                raise ValueError(f"{where}.{error}") from None
            if self.teacher_training(name).burst is not None and sandbox.is_plain:
                raise ValueError(f"{where}.training.burst: has no effect in a world without triggers; set it to null")
            if teacher.until and sandbox.is_plain:
                what = ", ".join(teacher.until)
                raise ValueError(f"{where}.until: {what} needs triggers, and its world has none (count 0)")
            if teacher.data == "same" and isinstance(self.seeds, CrossedSeeds):
                raise ValueError(
                    f"{where}.data=same: a teacher on its student's own sequences has no seed apart from theirs; set "
                    "data to fresh, or give plain seeds like [0, 1]"
                )
        try:
            teacher.check(self.teachers)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None

    def _check_arm(self, name: str, arm: ArmConfig) -> None:
        where = f"arms.{name}"
        if arm.teacher is not None and arm.teacher not in self.teachers:
            known = ", ".join(sorted(self.teachers)) or "none"
            raise ValueError(f"{where}.teacher={arm.teacher}: must name an entry of teachers (defined: {known})")
        if isinstance(arm.label_smoothing, MatchedSmoothing):
            self._check_match(f"{where}.label_smoothing.match={arm.label_smoothing.match}", name, arm.label_smoothing)
        training = self.arm_training(name)
        self.arm_model(name)
        sandbox = self.arm_sandbox(name)
        parts = self.arm_teachers(name)
        try:
            training.check_steps(sandbox.seq_len)
            check_meaning(arm, sandbox, training, parts)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from None
        if arm.temperature != 1 and arm.teacher and self.teachers[arm.teacher].traits.gives_labels:
            raise ValueError(
                f"{where}.temperature={arm.temperature}: would soften the draws, not the law that they come from; "
                "drop it and draw from a temperature teacher"
            )
        for part, teacher in parts.items():
            self._check_fit(f"{where}.teacher={arm.teacher}", Student(sandbox, training), part, teacher)

    def _check_start(self, where: str, name: str, start: WarmStart) -> None:
        """Raise ValueError unless a warm start from another arm is to a model that is there and fits."""
        if isinstance(self.arms[name].alpha, OptimalAlpha):
            raise ValueError(
                f"{where}.alpha.kind=optimal: counts visits from its own step 0 on, and a warm start has seen others; "
                "give alpha as a number or schedule, or drop init"
            )
        if start.arm is None:
            return
        where = f"{where}.init.arm={start.arm}"
        known = {treatment.name: treatment for treatment in self.treatments()}
        if start.arm not in known:
            raise ValueError(f"{where}: must name another arm of this experiment; {did_you_mean(start.arm, known)}")
        chain = [name]
        while (source := self.arms[chain[-1]].init) is not None and source.arm in known:
            chain.append(known[source.arm].arm)
            if chain.count(chain[-1]) > 1:
                raise ValueError(f"{where}: begins at itself ({' -> '.join(chain)}); break the circle")
        arm = known[start.arm].arm
        steps = known[start.arm].training.steps(self.arm_sandbox(arm).seq_len)
        check_shapes(where, self.arm_model(arm), self.arm_sandbox(arm), self.arm_model(name), self.arm_sandbox(name))
        if start.step != "last" and start.step > steps:
            raise ValueError(f"{where}, step={start.step}: must be at most its {steps} steps; lower step")
        if start.step == 0:
            raise ValueError(f"{where}, step=0: is where every arm of its seed begins, which equals no init; drop it")

    def _check_match(self, where: str, name: str, smoothing: MatchedSmoothing) -> None:
        """Raise ValueError unless the other arm's targets are the same throughout training."""
        other = self.arms.get(smoothing.match)
        if other is None or not other.distils or other.label_smoothing != 0:
            raise ValueError(f"{where}: must name an arm of this experiment that distils and smooths no labels")
        if not (other.has_one_target and other.divergence.is_forward_kl and other.soften == "teacher"):
            raise ValueError(
                f"{where}: must name an arm whose targets are known beforehand (a number for alpha, "
                f"{ForwardKL.kind_name}, no routing by the student)"
            )
        assert other.teacher is not None
        moving = [part for part, t in closure([other.teacher], self.teachers).items() if t.traits.moves]
        if moving:
            raise ValueError(f"{where}: must name an arm whose teacher stays the same, and {moving[0]} does not")
        if self.arm_sandbox(smoothing.match) != self.arm_sandbox(name):
            raise ValueError(f"{where}: must name an arm in the same sandbox")

    def _check_fit(self, where: str, student: Student, part: str, teacher: TeacherConfig) -> None:
        """Raise ValueError if a teacher cannot serve a student."""
        sandbox = student.sandbox
        if isinstance(teacher, CheckpointTeacher) and teacher.is_trained_here:
            theirs = self.teacher_sandbox(part)
            if theirs.vocab != sandbox.vocab or theirs.seq_len < sandbox.seq_len:
                raise ValueError(
                    f"{where}: {part} knows {theirs.vocab} tokens and {theirs.seq_len} positions, the arm has "
                    f"{sandbox.vocab} and {sandbox.seq_len}; set teachers.{part}.sandbox to the arm's"
                )
            if teacher.sandbox is None and not theirs.is_world_of(sandbox):
                raise ValueError(
                    f"{where}: {part} is trained in another world than the arm's; set teachers.{part}.sandbox to the "
                    "arm's, or to {} if that is meant"
                )
        try:
            teacher.check_fit(student, self.teachers)
        except ValueError as error:
            raise ValueError(f"{where}: teachers.{part}.{error}") from None

    def arm_training(self, arm: str) -> TrainingConfig:
        """`training` as this arm sees it, its overrides applied."""
        return _override(self.training, self.arms[arm].training, f"arms.{arm}.training")

    def arm_model(self, arm: str) -> ModelConfig:
        """`model` as this arm sees it."""
        return _override(self.model, self.arms[arm].model, f"arms.{arm}.model")

    def arm_sandbox(self, arm: str) -> SandboxConfig:
        """`sandbox` as this arm sees it."""
        return _override(self.sandbox, self.arms[arm].sandbox, f"arms.{arm}.sandbox")

    def arm_teachers(self, arm: str) -> dict[str, TeacherConfig]:
        """The teachers that an arm's runs need, parts before what is made of them."""
        names = [name] if (name := self.arms[arm].teacher) else []
        if (matched := self.matched(arm)) is not None and matched.teacher:
            names.append(matched.teacher)
        return closure(names, self.teachers)

    def matched(self, arm: str) -> ArmConfig | None:
        """The arm whose distance from the truth this arm's label smoothing matches."""
        smoothing = self.arms[arm].label_smoothing
        return self.arms[smoothing.match] if isinstance(smoothing, MatchedSmoothing) else None

    def teacher_training(self, name: str) -> TrainingConfig:
        """`training` as this checkpoint teacher sees it; cosine where students are trunks, since it has no branches."""
        base = self.training
        if base.schedule == "trunk":
            base = base.model_copy(update={"schedule": "cosine", "branches": None, "anneal": None})
        return _override(base, self._checkpoint_teacher(name).training, f"teachers.{name}.training")

    def teacher_model(self, name: str) -> ModelConfig:
        """`model` as this checkpoint teacher sees it."""
        return _override(self.model, self._checkpoint_teacher(name).model, f"teachers.{name}.model")

    def teacher_sandbox(self, name: str) -> SandboxConfig:
        """`sandbox` as this checkpoint teacher sees it."""
        return _override(self.sandbox, self._checkpoint_teacher(name).sandbox, f"teachers.{name}.sandbox")

    def _checkpoint_teacher(self, name: str) -> CheckpointTeacher:
        teacher = self.teachers[name]
        assert isinstance(teacher, CheckpointTeacher)
        return teacher


def _override(base: M, changes: dict[str, Any] | None, where: str) -> M:
    if not changes:
        return base
    try:
        return type(base).model_validate({**base.model_dump(), **changes})
    except ValidationError as error:
        raise ValueError(f"{where}.{problem(error)}") from None


def experiment(data: Any) -> ExperimentConfig:
    """The checked experiment of a parsed file; raises `MechdistillError` naming value, rule and fix."""
    if not isinstance(data, dict):
        raise MechdistillError(f"experiment: must be a mapping of keys to values, not {type(data).__name__}")
    try:
        return ExperimentConfig.model_validate(data)
    except ValidationError as error:
        raise MechdistillError(problem(error)) from None
