"""Where a teacher stops: at the first look at which it has reached what its `until` asks for.

Copying can form within a few dozen steps, so that who looks as seldom as a run is evaluated stops anywhere above the
target. So looks are cheap and frequent, and the nearer, the more frequent and the more exact.
"""

import math
from typing import Any

from mechdistill.config import RunConfig
from mechdistill.evals import inline_metrics
from mechdistill.model import Model
from mechdistill.positions import EvaluationSet, predict
from mechdistill.tables import LATER
from mechdistill.world import World

LOOK_EVERY = 5
"""Steps between looks."""
LOOK_SEQUENCES = 64
"""Held-out sequences of a look; in the default world 500 copyable positions, a standard error of about .02."""
NEAR = 0.1
"""From this far below the target on, the deciding sequences are looked at instead; where a look has few copyable
positions, from three of its standard errors on."""
DECIDING_SEQUENCES = 1024
"""Held-out sequences that decide: a standard error of about .005."""
AT_HAND = 0.05
"""From this far below the target on, by the deciding sequences, every step is looked at."""


class Until:
    """What a run has to reach, on which held-out sequences, and when to look next."""

    def __init__(self, config: RunConfig, world: World):
        assert config.until
        self._asked = config.until
        self._look = EvaluationSet.held_out(world, LOOK_SEQUENCES)
        self._deciding = EvaluationSet.held_out(world, DECIDING_SEQUENCES)
        copyable = max(1, int(self._look.copyable.sum()))
        self._near = max(NEAR, 3 * math.sqrt(0.25 / copyable))
        self.next_look = LOOK_EVERY
        """The step at which to look; part of the state from which a run goes on."""

    def reached(self, model: Model, step: int) -> dict[str, float] | None:
        """The values that have been reached, or None where any is still missing."""
        self.next_look = step + LOOK_EVERY
        if self._short(_watched(model, self._look)) > self._near:
            return None
        values = _watched(model, self._deciding)
        short = self._short(values)
        if short <= AT_HAND:
            self.next_look = step + 1
        return {name: values[name] for name in self._asked} if short <= 0 else None

    def _short(self, values: dict[str, float]) -> float:
        """What is missing of the target that is furthest away; <= 0 where all are reached."""
        return max(asked - values.get(name, -math.inf) for name, asked in self._asked.items())


def _watched(model: Model, data: EvaluationSet) -> dict[str, float]:
    """Metrics at occurrence >= 2 by name; none where the world has nothing to copy."""
    rows: list[dict[str, Any]] = inline_metrics(predict(model, data))
    return {row["metric"]: row["value"] for row in rows if row.get("occurrence") == LATER}
