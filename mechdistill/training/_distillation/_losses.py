"""The loss of a training batch, and the terms of it that are logged."""

from typing import NamedTuple

import torch
from torch import Tensor

from mechdistill.laws import entropy, soften
from mechdistill.objective import Asked, Objective
from mechdistill.tables import Metric, metrics, train_divergence


class BatchLoss(NamedTuple):
    """Of one batch, nats per token."""

    total: Tensor  # what is minimised, with its gradient
    logged: Tensor  # the values of `TrainingLoss.logged`, in order, without one


class TrainingLoss:
    """What a run minimises and logs on its training batches."""

    def __init__(self, objective: Objective, *, distils: bool):
        self._objective = objective
        self.logged: list[Metric] = [metrics.TRAIN_LOSS, metrics.TRAIN_CROSS_ENTROPY]
        """What each batch's loss gives besides the gradient, in order."""
        if objective.smoothing:
            self.logged.append(metrics.TRAIN_SMOOTHED)
        if distils:
            self.logged.append(train_divergence(objective.config.divergence.kind))
            # the same gradient, another value: never take one for the other
            if objective.config.divergence.is_forward_kl:
                self.logged.append(metrics.TRAIN_SOFT)

    def __call__(self, asked: Asked, next_tokens: Tensor) -> BatchLoss:
        """The loss where the student and its teacher have these laws."""
        losses = self._objective.loss(asked, next_tokens)
        with torch.no_grad():
            logged = [losses.total, losses.cross_entropy]
            if metrics.TRAIN_SMOOTHED in self.logged:
                logged.append(losses.smoothed)
            if losses.divergence is not None:
                logged.append(losses.divergence)
            if metrics.TRAIN_SOFT in self.logged:
                assert losses.divergence is not None
                logged.append(losses.divergence + self._soft_entropy(asked))
            return BatchLoss(losses.total, torch.stack(logged))

    def _soft_entropy(self, asked: Asked) -> Tensor:
        """What cross-entropy with the teacher has beyond forward KL: its softened law's entropy, scaled alike."""
        assert asked.teacher_log_probs is not None
        config = self._objective.config
        scale = config.temperature**2 if config.soften == "both" else 1
        return scale * entropy(soften(asked.teacher_log_probs, config.temperature)).mean()
