"""Divergences between the teacher's law and the student's, as arms of the experiment file name them.

To add one: its settings as a class here and its line in `DIVERGENCES`; the function in `mechdistill.laws`. It is
called with the teacher's and the student's log-probabilities and, by keyword, its settings, and gives nats by
position. A user's own comes by `@md.divergence`.
"""

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, SerializeAsAny

from mechdistill.config._kinds import Kind, KindConfig, of_kind
from mechdistill.registry import Registry


class DivergenceConfig(KindConfig):
    """D, p the teacher and q the student."""

    formula: ClassVar[str] = ""
    """As texts about a run say it; unless given, `name(teacher, student)`."""
    is_forward_kl: ClassVar[bool] = False
    """Whether it is the cross-entropy with soft labels but for a constant: then the expected loss of an arm is smallest
    at the mixture of the labels' law and the teacher's."""

    @property
    def needs_support(self) -> bool:
        """Whether it is infinite against a teacher that excludes tokens."""
        return False

    @property
    def settings(self) -> dict[str, Any]:
        """Arguments of its function. `floor` is none: it is mixed into the teacher."""
        return self.model_dump(exclude={"kind", "floor"})


class ForwardKL(DivergenceConfig, kind="forward-kl"):
    """KL(teacher ‖ student)."""

    formula: ClassVar = "KL(teacher ‖ student)"
    is_forward_kl: ClassVar = True


class FlooredDivergence(DivergenceConfig):
    """One that is infinite against a teacher that excludes tokens."""

    floor: float | None = Field(default=None, ge=1e-8, lt=1)
    """Mix the teacher with this much of the uniform law; without it such a teacher is refused."""

    @property
    def needs_support(self) -> bool:
        """Always."""
        return True


class ReverseKL(FlooredDivergence, kind="reverse-kl"):
    """KL(student ‖ teacher): infinite against a teacher that excludes tokens."""

    formula: ClassVar = "KL(student ‖ teacher)"


class JSD(DivergenceConfig, kind="jsd"):
    """beta·KL(p ‖ m) + (1 - beta)·KL(q ‖ m), m = beta·p + (1 - beta)·q, p the teacher and q the student."""

    beta: float = Field(default=0.5, gt=0, lt=1)


class NormalisedJSD(DivergenceConfig, kind="normalised-jsd"):
    """JSD / (beta·(1 - beta)): it goes to forward KL as beta goes to 0, and to reverse KL as beta goes to 1."""

    beta: float = Field(default=0.5, ge=1e-6, le=1 - 1e-6)


class TotalVariation(DivergenceConfig, kind="total-variation"):
    """½ Σ |p - q|."""


DIVERGENCES: Registry[Kind[DivergenceConfig]] = Registry(
    "divergence",
    (
        Kind(ForwardKL, "mechdistill.laws:forward_kl"),
        Kind(ReverseKL, "mechdistill.laws:reverse_kl"),
        Kind(JSD, "mechdistill.laws:jsd"),
        Kind(NormalisedJSD, "mechdistill.laws:normalised_jsd"),
        Kind(TotalVariation, "mechdistill.laws:total_variation"),
    ),
)
"""By kind."""


def _named(value: Any) -> Any:
    """Let a kind without settings be given by its name."""
    return {"kind": value} if isinstance(value, str) else value


Divergence = Annotated[SerializeAsAny[DivergenceConfig], of_kind(DIVERGENCES), BeforeValidator(_named)]
"""A divergence of any kind: its name, or a mapping with `kind` and its settings."""
