"""What a plain count table comes to on a run's own data and objective: its null model, in closed form."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mechdistill.config import OptimalAlpha, RampAlpha, RunConfig, StagedAlpha
from mechdistill.errors import MechdistillError
from mechdistill.laws import soften
from mechdistill.model import Bigram
from mechdistill.objective import Asked, Objective, Table
from mechdistill.training._distillation._targets import Targets
from mechdistill.world import KnownWorld, Labels, Stream

ASKED = 2**17
"""Positions at which a teacher is asked, spread over the data, at least one step between two tables; all of fewer."""
_CHUNK = 2048  # sequences whose labels are counted at once


class Tabular:
    """The tables of a run, told what its student is told."""

    def __init__(self, config: RunConfig, objective: Objective, targets: Targets, world: KnownWorld, data: Stream):
        """Raises `MechdistillError` where the objective's minimiser over tables is no mean, or nobody knows it."""
        self._config, self._objective, self._targets = config, objective, targets
        self._world, self._data = world, data
        self._nobody = Bigram(d_vocab=world.vocab, n_ctx=world.seq_len).requires_grad_(False)
        self._refuse_unknown()

    @torch.no_grad()
    def laws(self, at: Sequence[int], pseudo_count: float) -> Iterator[Tensor]:
        """The table [row, next] (probabilities, float64) after each of these steps, which ascend."""
        table, before = Table(self._world.vocab), 0
        for step in at:
            self._tell_all(table, before, step)
            self._tell_sample(table, before, step, (step - before) / max(1, at[-1]))
            before = step
            yield table.law(smoothing=self._objective.smoothing, pseudo_count=pseudo_count)

    def _tell_all(self, table: Table, start: int, stop: int) -> None:
        """All labels of these steps, as they weigh before the teacher is asked."""
        batch = self._config.training.batch
        arm = self._objective.config
        by_step = isinstance(arm.alpha, RampAlpha | StagedAlpha) or arm.normalise == "per-term"
        steps = 1 if by_step else max(1, _CHUNK // batch)
        for step in range(start, stop, steps):
            part = self._data.batch(step * batch, min(steps, stop - step) * batch)
            labels = self._world.labels(part.tokens, part.triggers)
            table.tell(labels.row, part.next_tokens, self._known_weights(labels, step))

    def _tell_sample(self, table: Table, start: int, stop: int, share: float) -> None:
        """The teacher's laws at some of these steps, for all of them, and what labels weigh more for its sake."""
        if self._targets.teacher is None or stop == start:
            return
        batch = self._config.training.batch
        chosen = _spread(start, stop, max(1, round(share * ASKED / (batch * self._world.seq_len))))
        for step in chosen:
            part = self._data.batch(step * batch, batch)
            labels = self._world.labels(part.tokens, part.triggers)
            self._targets.advance(step, self._nobody)
            nothing = self._nobody(part.tokens).log_softmax(dim=-1)
            asked = self._targets.ask(labels, nothing, step, with_mean=self._objective.reads_the_expected_law)
            assert asked.teacher_log_probs is not None
            weights, known = self._objective.weights(asked), self._known_weights(labels, step)
            table.tell_sample(
                labels.row,
                part.next_tokens,
                weights.hard if known is None else weights.hard - known,
                soften(asked.teacher_log_probs, self._objective.config.temperature).exp(),
                weights.soft,
                stands_for=(stop - start) / len(chosen),
            )

    def _known_weights(self, labels: Labels, step: int) -> Tensor | None:
        """What labels weigh before routing; None where that hangs on the teacher."""
        if isinstance(self._objective.config.alpha, OptimalAlpha):
            return None
        like = torch.zeros(()).expand(*labels.row.shape, 1)
        return self._objective.weights(Asked(labels, None, None, like, self._targets.moment(step), None)).hard

    def _refuse_unknown(self) -> None:
        arm = self._objective.config
        wrong = {
            f"divergence={arm.divergence.kind}": not arm.divergence.is_forward_kl,
            "soften=both": arm.soften == "both",
            "init": self._config.start is not None,
            f"teacher={arm.teacher}": any(traits.follows_student for traits in self._targets.traits),
        }
        if arm.routing is not None:
            wrong[f"routing.signal={arm.routing.signal}"] = arm.routing.by.asks_the_student
        for what, is_wrong in wrong.items():
            if is_wrong:
                raise MechdistillError(
                    f"{self._config.path}: {what} has no tabular null, whose closed form is of forward KL to a teacher "
                    "and weights that do not follow the student, from nothing; choose another arm"
                )


def _spread(start: int, stop: int, count: int) -> list[int]:
    """So many steps from start to before stop, evenly spread; all where there are no more."""
    whole = stop - start
    return (
        [start + (2 * i + 1) * whole // (2 * count) for i in range(count)] if count < whole else [*range(start, stop)]
    )
