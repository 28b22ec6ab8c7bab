"""What each position of sandbox sequences is."""

from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.sandbox._chain import Chain
from mechdistill.world import Labels


class SandboxLabels(Labels):
    """The `Labels` of a chain, computed when asked for; every field describes the prediction made there."""

    def __init__(
        self, chain: Chain, tokens: Int[Tensor, "batch pos"], triggers: Bool[Tensor, "batch vocab"] | None = None
    ):
        self._chain, self._triggers = chain, triggers
        self.row = tokens
        """The current token: the row of pi that applies unless it is a trigger."""

    @cached_property
    def row_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the token's ordinary row, nats."""
        return torch.tensor(self._chain.row_entropy)[self.row].float()

    @cached_property
    def bucket(self) -> Int[Tensor, "batch pos"]:
        """Quartile of ordinary rows by entropy, 0 lowest; -1 at triggers."""
        return torch.where(self.occurrence == 0, torch.tensor(self._chain.bucket)[self.row], -1)

    @cached_property
    def occurrence(self) -> Int[Tensor, "batch pos"]:
        """0: no trigger; 1: first occurrence, target unknown; 2 and more: copyable."""
        return self._chain.occurrence(self.row, self._triggers)

    @cached_property
    def copyable(self) -> Bool[Tensor, "batch pos"]:
        """Occurrence >= 2 of a trigger: its target can be copied from context."""
        return self.occurrence >= 2

    @cached_property
    def log_probs(self) -> Float[Tensor, "batch pos vocab"]:
        """The oracle's log-law, nats."""
        return self._chain.law(self.row)

    @cached_property
    def oracle_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the oracle's law, nats."""
        return -torch.where(self.log_probs > -torch.inf, self.log_probs.exp() * self.log_probs, 0.0).sum(dim=-1)
