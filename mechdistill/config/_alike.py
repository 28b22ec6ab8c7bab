"""Whether two arms train the same runs under two names: what they resolve to, with all that says the same made equal.

Left out is what changes no weight: names, and how often a run is looked at.
"""

from collections.abc import Mapping
from typing import Any

from mechdistill.config._model import ModelConfig
from mechdistill.config._objective import ArmConfig
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._teacher import TeacherConfig
from mechdistill.config._trained import CheckpointTeacher
from mechdistill.config._training import TrainingConfig
from mechdistill.config.teachers import TEACHERS, BigramTeacher, OracleTeacher, PermutedTeacher

_LOOKING = {"tokens", "branches", "anneal", "evaluate_every", "checkpoint_every", "burst", "eval_sequences"}


def normal_form(
    arm: ArmConfig,
    model: ModelConfig,
    sandbox: SandboxConfig,
    training: TrainingConfig,
    teachers: Mapping[str, TeacherConfig],
    matched: ArmConfig | None,
) -> tuple[Any, ...]:
    """Equal for two arms only if their runs are."""
    return (
        normal_model(model),
        sandbox.model_dump_json(),
        training.model_dump_json(exclude=_LOOKING),
        training.steps(sandbox.seq_len),
        _objective(arm, sandbox, training, teachers),
        None if matched is None else _objective(matched, sandbox, training, teachers),
    )


def normal_model(model: ModelConfig) -> tuple[Any, ...]:
    """A model with its defaults resolved, and without those of an MLP that it has not; of the null model its kind."""
    if not model.has_heads:
        return (model.kind,)
    widths = {"d_head": model.head_width, "n_kv_heads": model.kv_heads}
    mlp = {"d_mlp": None, "act": "relu"} if model.attn_only else {"d_mlp": model.mlp_width}
    clamps = {"clamps": tuple(sorted(model.clamps, key=lambda clamp: clamp.place))}
    return (model.model_copy(update={**widths, **mlp, **clamps}).model_dump_json(),)


def normal_teacher(name: str, teachers: Mapping[str, TeacherConfig], sandbox: SandboxConfig) -> tuple[Any, ...]:
    """A teacher by what it is made of; by its name too where that seeds it, or where a user has defined it."""
    teacher = teachers[name]
    if isinstance(teacher, BigramTeacher) and sandbox.is_plain:
        teacher = OracleTeacher()
    trained = isinstance(teacher, CheckpointTeacher) and teacher.is_trained_here
    seeded = trained or teacher.traits.draws or isinstance(teacher, PermutedTeacher)
    fresh = getattr(teacher, "data", None) == "fresh"
    own = TEACHERS.origin(teacher.kind) is not None
    parts = [normal_teacher(part, teachers, sandbox) for part in teacher.parts]
    settings = teacher.model_dump_json(exclude={"of", "copyable", "elsewhere"})
    return (settings, *parts, *((name,) if seeded or fresh or own else ()))


def _objective(
    arm: ArmConfig, sandbox: SandboxConfig, training: TrainingConfig, teachers: Mapping[str, TeacherConfig]
) -> tuple[Any, ...]:
    apart = {"teacher", "routing", "label_smoothing", "training", "model", "sandbox"}
    teacher = None if arm.teacher is None else normal_teacher(arm.teacher, teachers, sandbox)
    routing = None
    if arm.routing is not None:
        share = arm.routing.share(sandbox.seq_len, training.batch)
        routing = (share, arm.routing.model_dump_json(exclude={"quantile", "scope"}))
    smoothing = arm.label_smoothing if isinstance(arm.label_smoothing, float) else None  # or `matched` says it
    return (arm.model_dump_json(exclude=apart), teacher, routing, smoothing)
