"""Sequences, and what each of their positions is."""

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from mechdistill.sandbox._world import Sandbox


class Batch(NamedTuple):
    """Sequences and what no reader of their tokens can know for sure: which tokens are triggers in each."""

    sequences: Int[Tensor, "sequence pos_plus_1"]
    triggers: Bool[Tensor, "sequence vocab"]

    @property
    def tokens(self) -> Int[Tensor, "sequence pos"]:
        """Inputs: all tokens but the last."""
        return self.sequences[:, :-1]

    @property
    def next_tokens(self) -> Int[Tensor, "sequence pos"]:
        """The token that comes next at each position."""
        return self.sequences[:, 1:]


class Labels:
    """What each position of a batch is, computed when asked for; every field describes the prediction made there."""

    def __init__(
        self,
        sandbox: "Sandbox",
        tokens: Int[Tensor, "batch pos"],
        triggers: Bool[Tensor, "batch vocab"] | None = None,
    ):
        self._sandbox, self._triggers = sandbox, triggers
        self.row = tokens
        """The current token: the row of pi that applies unless it is a trigger."""

    @cached_property
    def row_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the token's ordinary row, nats."""
        return torch.from_numpy(self._sandbox.row_entropy)[self.row].float()

    @cached_property
    def bucket(self) -> Int[Tensor, "batch pos"]:
        """Quartile of ordinary rows by entropy, 0 lowest; -1 at triggers."""
        return torch.where(self.occurrence == 0, torch.from_numpy(self._sandbox.bucket)[self.row], -1)

    @cached_property
    def occurrence(self) -> Int[Tensor, "batch pos"]:
        """0: no trigger; 1: first occurrence, target unknown; 2 and more: copyable."""
        return self._sandbox.occurrence(self.row, self._triggers)

    @cached_property
    def copyable(self) -> Bool[Tensor, "batch pos"]:
        """Occurrence >= 2 of a trigger: its target can be copied from context."""
        return self.occurrence >= 2

    @cached_property
    def law(self) -> Float[Tensor, "batch pos vocab"]:
        """The oracle's log-law, nats."""
        return self._sandbox.law(self.row)

    @cached_property
    def oracle_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the oracle's law, nats."""
        return -torch.where(self.law > -torch.inf, self.law.exp() * self.law, 0.0).sum(dim=-1)
