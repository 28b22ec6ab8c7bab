"""Settings of an arm that change nothing where it is trained: it would be a simpler arm under another name."""

from collections.abc import Callable, Mapping

from mechdistill.config._alike import normal_teacher
from mechdistill.config._base import check_reached
from mechdistill.config._objective import (
    AlphaByOccurrence,
    ArmConfig,
    OccurrenceWeights,
    OptimalAlpha,
    RampAlpha,
    StagedAlpha,
)
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._teacher import TeacherConfig
from mechdistill.config._training import TrainingConfig
from mechdistill.config.teachers import EmaTeacher, OracleTeacher, TopKTeacher, UniformTeacher
from mechdistill.errors import named


def check_meaning(
    arm: ArmConfig, sandbox: SandboxConfig, training: TrainingConfig, parts: Mapping[str, TeacherConfig]
) -> None:
    """Raise ValueError, starting with the key, for a setting without effect; `parts` has the arm's teacher."""
    if sandbox.is_plain:
        _check_without_triggers(arm, training, parts)
    if isinstance(arm.alpha, StagedAlpha):
        _under("alpha", check_reached, arm.alpha.stages, training.steps(sandbox.seq_len))
    if arm.routing is not None:
        _under("routing", arm.routing.check_cut, sandbox.seq_len, training.batch, sandbox.vocab)
    _check_routed_class(arm)
    _check_normalise(arm)
    for name, teacher in parts.items():
        what = {normal_teacher(part, parts, sandbox) for part in teacher.parts}
        if len(teacher.parts) > 1 and len(what) == 1:
            raise ValueError(f"teacher={arm.teacher}: {name} is of equal teachers, which equals {teacher.parts[0]}")
    if arm.teacher is not None:
        _check_teacher(arm, parts[arm.teacher])


def remarks(trainings: Mapping[str, tuple[TrainingConfig, int]]) -> list[str]:
    """What is odd but no error, a line each; `trainings` are those of arms, with the length of their sequences."""
    found: dict[str, str] = {}
    for arm, (training, seq_len) in trainings.items():
        steps = training.steps(seq_len)
        if training.warmup > steps:
            line = (
                f"training.warmup={training.warmup}: is longer than the {steps} steps of training, so that the rate "
                f"never exceeds {steps / training.warmup:.3g} of training.lr"
            )
            found[line] = f"{found[line]}, {arm}" if line in found else arm
    return [f"{line} ({named(arms)})" for line, arms in found.items()]


def _under(key: str, check: Callable[..., None], *arguments: object) -> None:
    try:
        check(*arguments)
    except ValueError as error:
        raise ValueError(f"{key}.{error}") from None


def _check_without_triggers(arm: ArmConfig, training: TrainingConfig, parts: Mapping[str, TeacherConfig]) -> None:
    signal = arm.routing.signal if arm.routing else None
    dead = {
        "training.burst": training.burst is not None,
        "ce_weights": arm.ce_weights != OccurrenceWeights(),
        "alpha.kind=by-occurrence": isinstance(arm.alpha, AlphaByOccurrence),
        f"routing.signal={signal}": arm.routing is not None and arm.routing.by.reads_occurrence,
        f"teacher={arm.teacher}": any(part.traits.reads_occurrence for part in parts.values()),
    }
    for key, given in dead.items():
        if given:
            raise ValueError(f"{key}: has no effect in a world without triggers (count 0); drop it")


def _check_routed_class(arm: ArmConfig) -> None:
    """What is said twice of a class of positions: alpha by occurrence beside routing or weights."""
    alpha = arm.alpha
    if not isinstance(alpha, AlphaByOccurrence):
        return
    routing = arm.routing
    exactly_copyable = routing is not None and routing.by.reads_occurrence and routing.quantile is None
    if routing is not None and exactly_copyable:
        routed = (alpha.copyable,) if routing.tail == "low" else (alpha.ordinary, alpha.first)
        if set(routed) == {0.0}:
            raise ValueError(f"routing.signal={routing.signal}: routes where alpha is 0 already; drop routing")
    if routing is None or routing.keep != 1:
        for name, weight in arm.ce_weights:
            if weight != 1 and getattr(alpha, name) == 1:
                raise ValueError(
                    f"ce_weights.{name}={weight:g}: has no effect where alpha is 1; drop it or lower alpha"
                )


def _check_normalise(arm: ArmConfig) -> None:
    """A mean of its own for a term that at no moment weighs on some positions and not on others."""
    if arm.normalise == "all":
        return
    if isinstance(arm.alpha, OptimalAlpha):
        raise ValueError(
            "normalise=per-term: counts where a term weighs, which with alpha=optimal hangs on rounding; drop one"
        )
    for alpha in _moments(arm.alpha):
        weighs = [((1 - alpha[name]) * weight > 0, alpha[name] > 0) for name, weight in arm.ce_weights]
        if arm.routing is not None:
            kept = [
                weight > 0 if arm.routing.keep == 1 else (1 - alpha[name]) * weight > 0
                for name, weight in arm.ce_weights
            ]
            weighs += [(hard, False) for hard in kept]
        if any(len(set(term)) > 1 for term in zip(*weighs, strict=True)):
            return
    raise ValueError("normalise=per-term: has no effect where each term weighs on all positions or on none; drop it")


def _moments(alpha: float | RampAlpha | StagedAlpha | AlphaByOccurrence) -> list[dict[str, float]]:
    """alpha by what a position is, at the moments of training that differ in where it is 0 or 1."""
    if isinstance(alpha, AlphaByOccurrence):
        return [{name: getattr(alpha, name) for name in OccurrenceWeights.model_fields}]
    if isinstance(alpha, RampAlpha):
        values = [alpha.start, (alpha.start + alpha.end) / 2, alpha.end]
    else:
        values = [value for _, value in alpha.stages] if isinstance(alpha, StagedAlpha) else [alpha]
    return [dict.fromkeys(OccurrenceWeights.model_fields, value) for value in values]


def _check_teacher(arm: ArmConfig, teacher: TeacherConfig) -> None:
    one_hot = isinstance(teacher, TopKTeacher) and teacher.k == 1 and teacher.tail == "renormalise"
    if arm.temperature != 1 and arm.soften == "teacher" and (one_hot or isinstance(teacher, UniformTeacher)):
        raise ValueError(
            f"temperature={arm.temperature:g}: changes nothing of {arm.teacher}, uniform or certain; drop it"
        )
    if arm.temperature == 1 and isinstance(teacher, EmaTeacher) and teacher.decay == 0:
        raise ValueError(
            f"teacher={arm.teacher}: is the student itself (decay 0), from which it does not differ; nothing is "
            "distilled; raise decay"
        )
    if arm.temperature == 1 and isinstance(arm.alpha, OptimalAlpha) and isinstance(teacher, OracleTeacher):
        raise ValueError("alpha=optimal: is 1 everywhere with the oracle, which has no error; write alpha: 1")
