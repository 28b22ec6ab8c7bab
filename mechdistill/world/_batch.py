"""Sequences, and what each of their positions is."""

from abc import ABC, abstractmethod
from functools import cached_property
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError


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


class Stream(ABC):
    """What a run trains on: sequence number i is a pure function of (data seed, i)."""

    @abstractmethod
    def batch(self, start: int, count: int) -> Batch:
        """Sequences number start .. start + count."""


class Labels:
    """What each position of a batch is, computed when asked for; every field describes the prediction made there.

    A tenant overrides the fields that it has. The others raise `MechdistillError`.
    """

    row: Int[Tensor, "batch pos"]
    """The current token."""

    @cached_property
    def occurrence(self) -> Int[Tensor, "batch pos"]:
        """0: no trigger; 1: first occurrence, target unknown; 2 and more: copyable."""
        raise _lacking("triggers")

    @cached_property
    def copyable(self) -> Bool[Tensor, "batch pos"]:
        """Where the next token can be copied from context: occurrence >= 2 of a trigger."""
        raise _lacking("triggers")

    @cached_property
    def bucket(self) -> Int[Tensor, "batch pos"]:
        """Quartile of ordinary rows by entropy, 0 lowest; -1 at triggers."""
        raise _lacking("rows")

    @cached_property
    def row_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the token's ordinary row, nats."""
        raise _lacking("rows")

    @cached_property
    def log_probs(self) -> Float[Tensor, "batch pos vocab"]:
        """The oracle's log-law, nats."""
        raise _lacking("oracle")

    @cached_property
    def oracle_entropy(self) -> Float[Tensor, "batch pos"]:
        """Entropy of the oracle's law, nats."""
        raise _lacking("oracle")


def _lacking(what: str) -> MechdistillError:
    return MechdistillError(f"this world has no {what}; measure what it has, or train in a sandbox")
