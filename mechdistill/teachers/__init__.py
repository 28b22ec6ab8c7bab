"""Teachers: whatever gives soft targets. To add one, write a class with `id` and `log_probs` and register it."""

from typing import Any

from mechdistill.config import Teacher as TeacherConfig
from mechdistill.model import Model
from mechdistill.sandbox import Sandbox
from mechdistill.teachers._checkpoint import Checkpoint
from mechdistill.teachers._exact import BigramTeacher, Oracle
from mechdistill.teachers._protocol import Teacher

TEACHERS: dict[str, Any] = {"oracle": Oracle, "bigram": BigramTeacher, "checkpoint": Checkpoint}


def build(config: TeacherConfig, sandbox: Sandbox, trained: Model | None = None) -> Teacher:
    """The teacher of a config entry; `trained` is the model behind a checkpoint teacher."""
    if config.kind == "checkpoint":
        if trained is None:
            raise ValueError("a checkpoint teacher needs its trained model")
        return Checkpoint(trained)
    return TEACHERS[config.kind](sandbox)


__all__ = ["TEACHERS", "BigramTeacher", "Checkpoint", "Oracle", "Teacher", "build"]
