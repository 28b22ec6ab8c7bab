"""What a damaged model loses, on copying and on plain bigrams, as sums that add up over parts of an evaluation set."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.laws import entropy
from mechdistill.positions import EvaluationSet
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA, Metric
from mechdistill.world import N_BUCKETS

Logits = Float[Tensor, "batch pos vocab"]


class Effect(NamedTuple):
    """One number of the table: a metric, over all buckets of ordinary rows (None) or in one."""

    metric: Metric
    bucket: int | None


EFFECTS = (
    Effect(COPY_LOSS_DELTA, None),
    *(Effect(BIGRAM_KL_DELTA, bucket) for bucket in (None, *range(N_BUCKETS))),
)


class Reading:
    """Reads logits on some sequences of an evaluation set.

    Loss and KL are those of `Positions`, without a normalised law of every position in between: with Z = logsumexp of
    the logits, -log q(next) = Z - logit(next) and KL = Z - p·logits - H(p).
    """

    def __init__(self, data: EvaluationSet, rows: slice, device: torch.device):
        """`rows` of a chunk of it."""
        law = data.labels.log_probs[rows].to(device)
        self._p, self._entropy = law.exp(), entropy(law)
        self._next = data.next_tokens[rows, :, None].to(device)
        bucket, ordinary, copyable = (x[rows].to(device) for x in (data.bucket, data.ordinary, data.copyable))
        self._masks = [copyable, ordinary, *(bucket == i for i in range(N_BUCKETS))]
        self.counts = torch.tensor([float(mask.sum()) for mask in self._masks], dtype=torch.float64)

    def sums(self, logits: Logits) -> Float[Tensor, " effect"]:
        """Of each effect, the sum of its loss or KL over its positions."""
        logits = logits.float()
        z = logits.logsumexp(dim=-1)
        loss = z - logits.gather(-1, self._next)[..., 0]
        kl = z - torch.linalg.vecdot(self._p, logits) - self._entropy
        return torch.stack(
            [values[mask].double().sum() for mask, values in zip(self._masks, self._values(loss, kl), strict=True)]
        )

    def _values(self, loss: Tensor, kl: Tensor) -> Iterator[Tensor]:
        yield from (loss if effect.metric is COPY_LOSS_DELTA else kl for effect in EFFECTS)
