"""Opening the world of a config: the one place that knows which tenants there are."""

from pathlib import Path
from typing import Any

from mechdistill import sandbox
from mechdistill.ambient import neutral
from mechdistill.config import (
    CheckpointTeacher,
    CorpusRows,
    ExperimentConfig,
    SandboxConfig,
    TeacherConfig,
    refuse_world_beyond_memory,
)
from mechdistill.sandbox import Sandbox


@neutral()
def open_world(config: SandboxConfig) -> Sandbox:
    """The world that a run or an experiment says."""
    refuse_world_beyond_memory(config)
    return Sandbox(config)


def pinned(experiment: ExperimentConfig) -> ExperimentConfig:
    """The same experiment with the hash of every text that its worlds are made of, overrides included.

    Paths, of earlier runs too, no longer depend on the working directory.

    Raises `MechdistillError` if a text cannot be read, has too few characters, or has changed since it was hashed.
    """

    def override(changes: dict[str, Any] | None, whole: SandboxConfig) -> dict[str, Any] | None:
        if not changes or "rows" not in changes or not isinstance(whole.rows, CorpusRows):
            return changes
        return {**changes, "rows": sandbox.pinned(whole).rows.model_dump()}

    arms = {
        name: arm.model_copy(update={"sandbox": override(arm.sandbox, experiment.arm_sandbox(name))})
        for name, arm in experiment.arms.items()
    }

    def teacher(name: str, entry: TeacherConfig) -> TeacherConfig:
        if not isinstance(entry, CheckpointTeacher):
            return entry
        whole = override(entry.sandbox, experiment.teacher_sandbox(name))
        run = None if entry.run is None else str(Path(entry.run).absolute())
        return entry.model_copy(update={"sandbox": whole, "run": run})

    teachers = {name: teacher(name, entry) for name, entry in experiment.teachers.items()}
    base = sandbox.pinned(experiment.sandbox)
    return experiment.model_copy(update={"sandbox": base, "arms": arms, "teachers": teachers})
