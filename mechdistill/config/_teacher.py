"""What all teachers of the experiment file share: their parts, their traits, and the checks that a kind can make."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from mechdistill.config._kinds import KindConfig
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._training import TrainingConfig


@dataclass(frozen=True)
class Traits:
    """What others have to know of a kind of teacher."""

    draws: bool = False
    """Its targets are drawn afresh at every step, so that they are not their own mean."""
    gives_labels: bool = False
    """Its targets are counts of labels: a temperature would soften those and not the law that they come from."""
    moves: bool = False
    """Its law, draws aside, can change along training."""
    follows_student: bool = False
    """Its law depends on the student: the student's errors are in it."""
    reads_occurrence: bool = False
    """Its law depends on which tokens are triggers, also where the context does not show that."""
    knows_rows: bool = False
    """Its law on ordinary rows is the world's own, so that what comes after can be computed."""
    knows_targets: bool = False
    """So is its law at triggers, which depends on the whole prefix."""


class Student(NamedTuple):
    """Whom a teacher has to serve."""

    sandbox: SandboxConfig
    training: TrainingConfig


class TeacherConfig(KindConfig):
    """An entry of `teachers`. A field `of` names what it is made of: one entry or several."""

    traits: ClassVar[Traits] = Traits()

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the teachers that this one is made of."""
        of = getattr(self, "of", None)
        return () if of is None else (of,) if isinstance(of, str) else tuple(of)

    @property
    def fractions(self) -> tuple[float, ...]:
        """How far along the training of a checkpoint teacher that is its part it asks it; 1: when it is finished."""
        return (1.0,)

    @property
    def settings(self) -> dict[str, Any]:
        """All but its kind and its parts."""
        return self.model_dump(exclude={"kind", "of"})

    def check(self, teachers: Mapping[str, "TeacherConfig"]) -> None:
        """Raise ValueError, starting with the key, if it cannot be made of its parts."""

    def check_fit(self, student: Student, teachers: Mapping[str, "TeacherConfig"]) -> None:
        """Raise ValueError, starting with the key, if it cannot serve a student."""


MOST_PARTS = 256
"""Teachers that are asked for the targets of one, itself included."""


def closure(names: list[str], teachers: dict[str, TeacherConfig]) -> dict[str, TeacherConfig]:
    """The named teachers and all that they are made of, parts first.

    Raises ValueError, starting with the key, for a name that is not defined or a teacher made of itself.
    """
    found: dict[str, TeacherConfig] = {}
    sizes: dict[str, int] = {}  # how many teachers are asked where this one is

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " -> ".join((*above, name))
            raise ValueError(f"teachers.{name}: is made of itself ({circle}); break the circle")
        if name in found:
            return
        for part in teachers[name].parts:
            if part not in teachers:
                known = ", ".join(sorted(teachers))
                raise ValueError(f"teachers.{name}: is made of {part}, which is no entry of teachers (there: {known})")
            visit(part, (*above, name))
        sizes[name] = 1 + sum(sizes[part] for part in teachers[name].parts)
        if sizes[name] > MOST_PARTS:
            raise ValueError(f"teachers.{name}: asks {sizes[name]} teachers, must be at most {MOST_PARTS}; simplify it")
        found[name] = teachers[name]

    for name in names:
        visit(name, ())
    return found
