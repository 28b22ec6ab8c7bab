"""What a model gets right or wrong at each position: loss, divergence from the oracle, and where copying is possible.

Everything that evaluates a model (inline evals, row curves, ablation) reads these; copy positions are defined here
and nowhere else. Occurrence 1 of a trigger, where the target is unknown, is never pooled with occurrences >= 2.

A law has as many numbers at a position as the vocabulary has tokens, so those of a whole set are never held: sets are
walked in chunks of sequences, and what is kept of each position is a few numbers.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.laws import cross_entropy, forward_kl
from mechdistill.model import Model
from mechdistill.world import Batch, Labels, World, known

HELD_OUT = 256
"""Sequences behind tables that are not made during training: of a checkpoint, and of a teacher row by row."""

CHUNK_BYTES = 2**26
"""How large the laws of a chunk may be; the evaluation sets of a sandbox are one chunk, a text's are several."""


@dataclass(frozen=True)
class EvaluationSet:
    """Held-out sequences and what the oracle says of them, computed once and shared by every evaluation."""

    world: World
    batch: Batch
    chunk_bytes: int = CHUNK_BYTES

    @classmethod
    def held_out(cls, world: World, count: int) -> "EvaluationSet":
        """The first `count` sequences of the world's evaluation stream; warns if nothing in them can be copied."""
        data = cls(world, world.evaluation(count))
        if "triggers" in world.provides and not bool(data.copyable.any()):
            warnings.warn(
                f"nothing can be copied in {count} held-out sequences, since no trigger occurs twice in any: there are "
                "no numbers of copying; take longer sequences, or triggers that occur more often",
                stacklevel=2,
            )
        return data

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.batch.sequences)

    def chunks(self) -> "Iterator[Chunk]":
        """Its sequences in order, so many at a time that their laws fit; itself where all do.

        Only the set itself remembers what was computed of it. Of several chunks none outlives its turn.
        """
        fit = max(1, self.chunk_bytes // (4 * self.world.seq_len * self.world.vocab))
        if fit >= len(self):
            yield Chunk(0, self)
            return
        for first in range(0, len(self), fit):
            part = Batch(*(field[first : first + fit] for field in self.batch))
            yield Chunk(first, EvaluationSet(self.world, part, self.chunk_bytes))

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
        """What each position is. Ask chunks, not the whole set, for `law`."""
        return self.world.labels(self.tokens, self.batch.triggers)

    @cached_property
    def oracle_loss(self) -> Float[Tensor, "batch pos"]:
        """What the oracle itself loses on the next token, nats."""
        return torch.cat([cross_entropy(part.labels.log_probs, part.next_tokens) for _, part in self.chunks()])

    @cached_property
    def no_matching_hits(self) -> Float[Tensor, "batch pos"]:
        """Copy accuracy of a guesser that matches nothing, by position; see `KnownWorld.no_matching_hits`."""
        world = known(self.world, "no-matching accuracy")
        return torch.cat([world.no_matching_hits(part.batch) for _, part in self.chunks()])

    @cached_property
    def occurrence(self) -> Int[Tensor, "batch pos"]:
        """Of a trigger; see `Labels.occurrence`."""
        return torch.cat([part.labels.occurrence for _, part in self.chunks()])

    @cached_property
    def bucket(self) -> Int[Tensor, "batch pos"]:
        """Quartile of ordinary rows by entropy; see `Labels.bucket`."""
        return torch.cat([part.labels.bucket for _, part in self.chunks()])

    @cached_property
    def ordinary(self) -> Bool[Tensor, "batch pos"]:
        """Positions that hold no trigger: plain bigrams."""
        return self.occurrence == 0

    @cached_property
    def first(self) -> Bool[Tensor, "batch pos"]:
        """First occurrence of a trigger: its target cannot be known."""
        return self.occurrence == 1

    @cached_property
    def copyable(self) -> Bool[Tensor, "batch pos"]:
        """Occurrence >= 2 of a trigger: its target can be copied from context."""
        return torch.cat([part.labels.copyable for _, part in self.chunks()])


class Chunk(NamedTuple):
    """Some successive sequences of an evaluation set."""

    first: int
    """Which of the whole set's sequences they begin with."""
    data: EvaluationSet


class Positions:
    """What is right or wrong with a model's law at each position of an evaluation set.

    Computed on the device of the laws and returned on the CPU.
    """

    def __init__(self, data: EvaluationSet, log_probs: Float[Tensor, "batch pos vocab"] | None):
        """Of laws that are at hand, like those of a chunk; None where they have been reduced to numbers."""
        self.data = data
        self.log_probs = log_probs

    @classmethod
    def of(cls, data: EvaluationSet, law: Callable[[EvaluationSet], Float[Tensor, "batch pos vocab"]]) -> "Positions":
        """Of a law that is a function of a chunk."""
        return cls.joined(data, (cls(part, law(part)) for _, part in data.chunks()))

    @classmethod
    def joined(cls, data: EvaluationSet, parts: "Iterable[Positions]") -> "Positions":
        """The whole set from its chunks in order, each reduced in its turn; where it is one chunk, that as it is."""
        parts = [part if part.data is data else part.reduced() for part in parts]
        if len(parts) == 1:
            return parts[0]
        return cls._given(data, {name: torch.cat([getattr(part, name) for part in parts]) for name in _numbers(data)})

    def reduced(self) -> "Positions":
        """All that can be asked for, computed now; neither this model's laws nor the oracle's are held any longer."""
        numbers = {name: getattr(self, name) for name in _numbers(self.data)}
        return self._given(replace(self.data), numbers)

    @classmethod
    def _given(cls, data: EvaluationSet, numbers: Mapping[str, Tensor]) -> "Positions":
        positions = cls(data, None)
        for name, values in numbers.items():
            setattr(positions, name, values)  # `cached_property` finds it and computes nothing
        return positions

    @cached_property
    def loss(self) -> Float[Tensor, "batch pos"]:
        """Cross-entropy of the next token, nats."""
        log_probs = self._log_probs
        return cross_entropy(log_probs, self.data.next_tokens.to(log_probs.device)).cpu()

    @cached_property
    def excess(self) -> Float[Tensor, "batch pos"]:
        """Loss beyond the oracle's on the same token, nats; its mean estimates the KL to the oracle."""
        return self.loss - self.data.oracle_loss

    @cached_property
    def kl(self) -> Float[Tensor, "batch pos"]:
        """KL(oracle ‖ model), nats, >= 0 up to rounding; 0 for the oracle itself, ln(vocab) - H(p) for uniform."""
        return forward_kl(self._oracle, self._log_probs).cpu()

    @cached_property
    def squared_error(self) -> Float[Tensor, "batch pos"]:
        """Σ (q - p)² between the model's and the oracle's law; range [0, 2]."""
        law = self._oracle
        return (self._log_probs.exp() - law.exp()).square().sum(dim=-1).cpu()

    @cached_property
    def correct(self) -> Float[Tensor, "batch pos"]:
        """1 where the likeliest token is the next token, else 0."""
        log_probs = self._log_probs
        return (log_probs.argmax(dim=-1) == self.data.next_tokens.to(log_probs.device)).float().cpu()

    @cached_property
    def missing(self) -> Float[Tensor, "batch pos"]:
        """The oracle's probability of tokens that the model excludes, in [0, 1]; `kl` is infinite where it is not 0."""
        law = self._oracle
        excluded = (self._log_probs == -torch.inf) & (law > -torch.inf)
        return torch.where(excluded, law.exp(), 0.0).sum(dim=-1).cpu()

    @property
    def _log_probs(self) -> Float[Tensor, "batch pos vocab"]:
        assert self.log_probs is not None, "reduced to numbers: ask chunks for laws"
        return self.log_probs

    @property
    def _oracle(self) -> Float[Tensor, "batch pos vocab"]:
        return self.data.labels.log_probs.to(self._log_probs.device)


def _numbers(data: EvaluationSet) -> tuple[str, ...]:
    """What can be asked for at each position."""
    return ("loss", "correct", *(("kl", "squared_error", "missing") if "oracle" in data.world.provides else ()))


@torch.no_grad()
def predict(
    model: Model, data: EvaluationSet, also: Callable[[Chunk, Float[Tensor, "batch pos vocab"]], None] | None = None
) -> Positions:
    """Run the model (hooks and all) on the evaluation set; `also` sees each chunk's log-probabilities in passing."""
    device = next(model.parameters()).device

    def predicted(chunk: Chunk) -> Positions:
        log_probs = model(chunk.data.tokens.to(device)).float().log_softmax(dim=-1)
        if also is not None:
            also(chunk, log_probs)
        return Positions(chunk.data, log_probs)

    return Positions.joined(data, map(predicted, data.chunks()))


def masked_mean(values: Float[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]) -> float:
    """Mean over the positions of a mask; nan where it is empty."""
    return float(values[mask].mean())


def worth_of_context(
    loss: Float[Tensor, "batch pos"], oracle_loss: Float[Tensor, "batch pos"], occurrence: Int[Tensor, "batch pos"]
) -> float:
    """(mean loss at occurrence 1 of triggers - mean loss at occurrences >= 2), over the same of the oracle.

    1 where a model gains from context what there is to gain; any number else. Chance is 0, of a model that looks at
    none, where all triggers are alike; where those that come again have other rows than those that come once, it is
    what a table without context comes to. nan where nothing can be copied. Source: ours, after Olsson et al. 2022.
    """
    first, later = occurrence == 1, occurrence >= 2
    gain, oracle = (masked_mean(of, first) - masked_mean(of, later) for of in (loss, oracle_loss))
    return gain / oracle if oracle else math.nan
