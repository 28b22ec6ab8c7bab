"""The floor: what a student would still be wrong by that does exactly what its objective asks for."""

from torch import Tensor

from mechdistill.laws import forward_kl
from mechdistill.objective import Asked, Objective
from mechdistill.training._distillation._targets import Targets
from mechdistill.world import KnownWorld


class Floor:
    """KL(oracle ‖ the law at which a step's expected loss is smallest), position by position."""

    def __init__(self, objective: Objective, targets: Targets, world: KnownWorld):
        self._objective, self._visible = objective, world.shows_triggers
        # not where a teacher draws inside another, or draws what the objective softens; where it follows the student
        # (its errors would pass for the objective's), or goes by occurrences that the context does not show
        unknown = any(
            traits.follows_student or (traits.reads_occurrence and not self._visible) for traits in targets.traits
        )
        self._known = targets.have_a_mean_at(objective.config.temperature) and not unknown

    def at(self, asked: Asked) -> Tensor | None:
        """Nats, >= 0 up to rounding, 0 where the objective asks for the truth; nan where it asks for nothing.

        None where it is not known: because of the teacher, or of the objective (see `Objective.target`).
        """
        if not self._known:
            return None
        target = self._objective.target(asked, occurrence_is_visible=self._visible)
        return None if target is None else forward_kl(asked.labels.log_probs.to(target.device), target)
