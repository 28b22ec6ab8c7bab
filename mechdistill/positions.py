"""What a model gets right or wrong at each position: loss, divergence from the oracle, and where copying is possible.

Everything that evaluates a model (inline evals, row curves, ablation) reads these; copy positions are defined here
and nowhere else. Occurrence 1 of a trigger, where the target is unknown, is never pooled with occurrences >= 2.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.laws import cross_entropy, forward_kl
from mechdistill.model import Model
from mechdistill.world import Batch, Labels, World, known

HELD_OUT = 256
"""Sequences behind tables that are not made during training: of a checkpoint, and of a teacher row by row."""


@dataclass(frozen=True)
class EvaluationSet:
    """Held-out sequences and what the oracle says of them, computed once and shared by every evaluation."""

    world: World
    batch: Batch

    @classmethod
    def held_out(cls, world: World, count: int) -> "EvaluationSet":
        """The first `count` sequences of the world's evaluation stream."""
        return cls(world, world.evaluation(count))

    @property
    def tokens(self) -> Int[Tensor, "batch pos"]:
        """Inputs."""
        return self.batch.tokens

    @property
    def next_tokens(self) -> Int[Tensor, "batch pos"]:
        """The token that comes next at each position."""
        return self.batch.next_tokens

    @cached_property
    def labels(self) -> Labels:
        """What each position is."""
        return self.world.labels(self.tokens, self.batch.triggers)

    @cached_property
    def oracle_loss(self) -> Float[Tensor, "batch pos"]:
        """What the oracle itself loses on the next token, nats."""
        return cross_entropy(self.labels.log_probs, self.next_tokens)

    @cached_property
    def no_matching_hits(self) -> Float[Tensor, "batch pos"]:
        """Copy accuracy of a guesser that matches nothing, by position; see `KnownWorld.no_matching_hits`."""
        return known(self.world, "no-matching accuracy").no_matching_hits(self.batch)

    @cached_property
    def ordinary(self) -> Bool[Tensor, "batch pos"]:
        """Positions that hold no trigger: plain bigrams."""
        return self.labels.occurrence == 0

    @cached_property
    def first(self) -> Bool[Tensor, "batch pos"]:
        """First occurrence of a trigger: its target cannot be known."""
        return self.labels.occurrence == 1

    @cached_property
    def copyable(self) -> Bool[Tensor, "batch pos"]:
        """Occurrence >= 2 of a trigger: its target can be copied from context."""
        return self.labels.copyable


@dataclass(frozen=True)
class Positions:
    """A model's predictions on an evaluation set, position by position."""

    data: EvaluationSet
    log_probs: Float[Tensor, "batch pos vocab"]

    @cached_property
    def loss(self) -> Float[Tensor, "batch pos"]:
        """Cross-entropy of the next token, nats."""
        return cross_entropy(self.log_probs, self.data.next_tokens)

    @cached_property
    def excess(self) -> Float[Tensor, "batch pos"]:
        """Loss beyond the oracle's on the same token, nats; its mean estimates the KL to the oracle."""
        return self.loss - self.data.oracle_loss

    @cached_property
    def kl(self) -> Float[Tensor, "batch pos"]:
        """KL(oracle ‖ model), nats, >= 0 up to rounding; 0 for the oracle itself, ln(vocab) - H(p) for uniform."""
        return forward_kl(self.data.labels.log_probs, self.log_probs)

    @cached_property
    def squared_error(self) -> Float[Tensor, "batch pos"]:
        """Σ (q - p)² between the model's and the oracle's law; range [0, 2]."""
        return (self.log_probs.exp() - self.data.labels.log_probs.exp()).square().sum(dim=-1)

    @cached_property
    def correct(self) -> Float[Tensor, "batch pos"]:
        """1 where the likeliest token is the next token, else 0."""
        return (self.log_probs.argmax(dim=-1) == self.data.next_tokens).float()


@torch.no_grad()
def predict(model: Model, data: EvaluationSet) -> Positions:
    """Run the model (hooks and all) on the evaluation set."""
    device = next(model.parameters()).device
    logits = model(data.tokens.to(device)).float().cpu()
    return Positions(data, logits.log_softmax(dim=-1))


def masked_mean(values: Float[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]) -> float:
    """Mean over the positions of a mask; nan where it is empty."""
    return float(values[mask].mean())
