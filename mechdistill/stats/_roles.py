"""Who plays which part in a claim: arms are known by what they are, not by what they are called.

A claim has a leading arm; the others have to stand beside it in the same world, with the same model and training, but
for a budget that their role names. So renaming an arm changes nothing, and an arm that only looks right by its name is
not taken.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mechdistill.config import ArmConfig, CheckpointTeacher, ExperimentConfig, RoutingConfig, TeacherConfig
from mechdistill.config.teachers import (
    OracleTeacher,
    PermutedTeacher,
    SpliceTeacher,
    TiltedTeacher,
    TopKTeacher,
)

_OVERRIDES = {"training": None, "model": None, "sandbox": None}
_FREE = {"tokens", "unique_sequences", "branches", "evaluate_every", "checkpoint_every", "burst", "eval_sequences"}
"""Of training: what twins may differ in, or a role's budget says."""


class Candidate(NamedTuple):
    """A treatment of an experiment that may play a role."""

    name: str
    arm: ArmConfig
    """Without its overrides, which the rest has applied."""
    teachers: Mapping[str, TeacherConfig]
    """Of the experiment, by name."""
    setting: tuple[Any, ...]
    """World, model and training, but for the budget."""
    tokens: int
    unique_sequences: int | None
    has_supports: bool
    """Whether rows of its world have numbers of successors of their own."""
    is_branch: bool

    @property
    def teacher(self) -> TeacherConfig | None:
        """By whom it is taught."""
        return None if self.arm.teacher is None else self.teachers[self.arm.teacher]


def candidates(experiment: ExperimentConfig) -> list[Candidate]:
    """Every treatment at its arm's own learning rate, in the order of the experiment file."""
    found: list[Candidate] = []
    for treatment in experiment.treatments():
        own = experiment.arm_training(treatment.arm).lr == treatment.training.lr
        if not own:
            continue
        training, sandbox = treatment.training, experiment.arm_sandbox(treatment.arm)
        found.append(
            Candidate(
                treatment.name,
                experiment.arms[treatment.arm].model_copy(update=_OVERRIDES),
                experiment.teachers,
                (sandbox, experiment.arm_model(treatment.arm), training.model_dump_json(exclude=_FREE)),
                training.tokens,
                training.unique_sequences,
                getattr(sandbox.rows, "sizes", None) is not None,
                treatment.trunk is not None,
            )
        )
    return found


@dataclass(frozen=True)
class Role:
    """A part that an arm can play."""

    name: str
    plays: Callable[[Candidate], bool] = field(compare=False)
    budget: float = 1.0
    """Its tokens, in the leading arm's; where sequences are few, its sequences too."""
    same_teacher: bool = False
    """Whether it is taught by the leading arm's teacher."""
    before_tuning: bool = False
    """Whether it is taught by what the leading arm's teacher is made of."""

    def fits(self, one: Candidate, lead: Candidate) -> bool:
        """Whether an arm plays this role beside the leading one."""
        few = None if lead.unique_sequences is None else self.budget * lead.unique_sequences
        return (
            self.plays(one)
            and one.setting == lead.setting
            and one.is_branch == lead.is_branch
            and one.tokens == self.budget * lead.tokens
            and one.unique_sequences == few
            and (not self.same_teacher or one.arm.teacher == lead.arm.teacher)
            and (not self.before_tuning or (lead.teacher is not None and lead.teacher.parts == (one.arm.teacher,)))
        )


def cast(roles: Iterable[Role], lead: Role, among: list[Candidate]) -> dict[str, str]:
    """Role -> arm, for the leading arm beside which most roles are played, the first of equals; empty without one."""
    best: dict[str, str] = {}
    for leading in among:
        if not lead.plays(leading):
            continue
        found = {lead.name: leading.name}
        for role in roles:
            if role != lead:
                fitting = next((one.name for one in among if role.fits(one, leading)), None)
                found |= {} if fitting is None else {role.name: fitting}
        if len(found) > len(best):
            best = found
    return best


def _exactly(candidate: Candidate, **settings: Any) -> bool:
    """Whether an arm is set like this, and like the default in all else."""
    return candidate.arm == ArmConfig(**settings)


def standard(candidate: Candidate) -> bool:
    """Plain cross-entropy (SPT)."""
    return _exactly(candidate)


def downweighted(candidate: Candidate) -> bool:
    """No teacher, and the cross-entropy at copyable positions times .1, as much as DPT-90 leaves of it."""
    return _exactly(candidate, ce_weights={"copyable": 0.1})


def distilled(
    *teachers: type[TeacherConfig], when: Callable[[Candidate], bool] = lambda _: True
) -> Callable[..., bool]:
    """DPT-90, plain forward KL at temperature 1, by a teacher of one of these kinds."""

    def plays(one: Candidate) -> bool:
        taught = isinstance(one.teacher, teachers) and _exactly(one, alpha=0.9, teacher=one.arm.teacher)
        return taught and when(one)

    return plays


def taught_alone(one: Candidate) -> bool:
    """By the oracle's law, without any label."""
    return isinstance(one.teacher, OracleTeacher) and _exactly(one, alpha=1.0, teacher=one.arm.teacher)


def imperfect(one: Candidate) -> bool:
    """Taught by who copies imperfectly: a checkpoint, spliced with the oracle elsewhere, or alone if it was stopped."""
    teacher = one.teacher
    if isinstance(teacher, SpliceTeacher):
        parts = one.teachers[teacher.copyable], one.teachers[teacher.elsewhere]
        return _of_each_seed(parts[0]) and isinstance(parts[1], OracleTeacher)
    return isinstance(teacher, CheckpointTeacher) and _of_each_seed(teacher) and teacher.until is not None


def routed(quantile: float, *, at_random: bool = False) -> Callable[[Candidate], bool]:
    """DPT-90 without the distillation term where the teacher is surest, or at as many random positions."""

    def plays(one: Candidate) -> bool:
        if one.arm.routing is None:
            return False
        by = one.arm.routing.by
        by_teacher = by.is_entropy and not by.asks_the_student
        routing = RoutingConfig(signal=by.name, quantile=quantile)
        same = _exactly(one, alpha=0.9, teacher=one.arm.teacher, routing=routing)
        return same and (by.is_random if at_random else by_teacher)

    return plays


def _trained(one: Candidate, *, data: str) -> bool:
    teacher = one.teacher
    plain = isinstance(teacher, CheckpointTeacher) and teacher.until is None and teacher.data == data
    return plain and _of_each_seed(teacher)


def _of_the_oracle(one: Candidate) -> bool:
    """A permutation of the exact law."""
    return one.teacher is not None and all(isinstance(one.teachers[part], OracleTeacher) for part in one.teacher.parts)


def _rewarded_apart(one: Candidate) -> bool:
    """Tuned from a teacher trained here, by a reward in rows of low entropy alone, which are not where pass@k asks."""
    teacher = one.teacher
    if not isinstance(teacher, TiltedTeacher) or teacher.of is None or teacher.below is None:
        return False
    return _of_each_seed(one.teachers[teacher.of])


def _one_hot(one: Candidate) -> bool:
    teacher = one.teacher
    return isinstance(teacher, TopKTeacher) and teacher.k == 1 and teacher.tail == "renormalise"


def _of_each_seed(teacher: TeacherConfig | None) -> bool:
    """A teacher trained for each student seed: where all share one, its luck is outside every interval."""
    return isinstance(teacher, CheckpointTeacher) and teacher.is_trained_here and teacher.seed == "per-student"


SPT = Role("spt", standard)
SPT_2X = Role("spt-2x", standard, budget=2)
SPT_HALF = Role("spt at half", standard, budget=0.5)
DOWNWEIGHT = Role("spt-downweight", downweighted)
DPT = Role("dpt-90", distilled(SpliceTeacher, CheckpointTeacher, when=imperfect))
DPT_ORACLE = Role("dpt-90, oracle", distilled(OracleTeacher))
DPT_PERMUTED = Role("dpt-90, permuted oracle", distilled(PermutedTeacher, when=_of_the_oracle))
ROUTED_15 = Role("routed 15 %", routed(0.15), same_teacher=True)
ROUTED_30 = Role("routed 30 %", routed(0.3), same_teacher=True)
ROUTED_RANDOM = Role("routed at random", routed(0.15, at_random=True), same_teacher=True)
DPT_TILTED = Role("dpt-90, tilted", distilled(TiltedTeacher, when=_rewarded_apart))
DPT_LATE = Role(
    "dpt-90, late",
    distilled(CheckpointTeacher, when=lambda one: _trained(one, data="fresh")),
    before_tuning=True,
)
DPT_TOP_1 = Role("dpt-90, top 1", distilled(TopKTeacher, when=_one_hot))
DPT_SAME = Role("dpt-90, same data", distilled(CheckpointTeacher, when=lambda one: _trained(one, data="same")))
DPT_SAME_HALF = Role("dpt-90, same data, at half", DPT_SAME.plays, budget=0.5, same_teacher=True)
DPT_PERFECT = Role("taught by the oracle alone", taught_alone)
