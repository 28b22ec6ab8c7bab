"""Matched smoothing: the placebo whose labels are as far from the truth as another arm's targets."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.laws import forward_kl, uniform_like
from mechdistill.objective import Objective, matched_smoothing
from mechdistill.positions import HELD_OUT, EvaluationSet
from mechdistill.teachers import Teacher
from mechdistill.training._distillation._targets import Targets
from mechdistill.world import KnownWorld


def smoothing_like(objective: Objective, teacher: Teacher, config: RunConfig, world: KnownWorld) -> float:
    """The label smoothing whose targets are as far from the truth as another arm's, on held-out sequences.

    Raises `MechdistillError` where what the other arm asks for is not known, or out of reach.
    """
    data = EvaluationSet.held_out(world, HELD_OUT)
    mean = teacher.expected()
    if objective.config.temperature != 1 and mean is not teacher:
        mean = None  # the mean of softened draws is not the mean of draws, softened
    targets = Targets(config, world, mean)
    distances: list[Tensor] = []
    for chunk in data.chunks():
        oracle = chunk.data.labels.log_probs
        asked = targets.ask_of(chunk, uniform_like(oracle), 0, data)
        target = None if mean is None else objective.target(asked, occurrence_is_visible=world.shows_triggers)
        if target is None:
            raise MechdistillError(
                "label_smoothing.match: the law that the other arm asks for is not known (its teacher draws inside "
                "another, its routing goes by quantiles, or its terms have means of their own); match another arm"
            )
        distances.append(forward_kl(oracle, target))
    distance = torch.cat(distances)
    return matched_smoothing(_Laws(data), float(distance[~distance.isnan()].mean()))


class _Laws:
    """The oracle's laws, chunk by chunk, as often as they are walked."""

    def __init__(self, data: EvaluationSet):
        self._data = data

    def __iter__(self) -> Iterator[Tensor]:
        return (chunk.data.labels.log_probs for chunk in self._data.chunks())
