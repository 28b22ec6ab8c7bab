"""Token sequences that isolate one behaviour: repeated blocks, the same queries without the repetition, and sequences
of the world itself."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.laws import cross_entropy
from mechdistill.world import World


class Probe(NamedTuple):
    """Sequences of one kind and what their positions hold."""

    tokens: Int[Tensor, "batch pos"]
    is_trigger: Bool[Tensor, "batch pos"]
    length: int = 0  # of a repeated block; 0 for sequences of the world
    occurrence: Int[Tensor, "batch pos"] | None = None  # of triggers, in sequences of the world (see `Labels`)
    control: Int[Tensor, "batch pos"] | None = None  # the last of repeated blocks, after others
    next_tokens: Int[Tensor, "batch pos"] | None = None  # in sequences of the world
    oracle_loss: Float[Tensor, "batch pos"] | None = None  # of them, nats, where the world knows its own law


class Probes(NamedTuple):
    """What head scores look at."""

    repeated: Probe  # [start] block block
    control: Probe  # [start] other block, so that the queries are the same and only the repetition is gone
    natural: Probe  # held-out sequences of the world
    fourfold: Probe  # [start] block block block block


class RepeatedBlocks(NamedTuple):
    """[start] block ... block, and a control in which all blocks but the last are other draws, each its own."""

    repeated: Int[Tensor, "batch pos"]
    control: Int[Tensor, "batch pos"]
    length: int


def probes(world: World, sequences: int, n_ctx: int, generator: torch.Generator) -> Probes:
    """So many sequences of each kind."""
    fixed = torch.tensor(world.triggers, dtype=torch.long)
    natural = world.evaluation(sequences)
    occurrence = torch.zeros_like(natural.tokens)
    labels = world.labels(natural.tokens, natural.triggers)
    if "triggers" in world.provides:
        occurrence = labels.occurrence
    oracle = cross_entropy(labels.log_probs, natural.next_tokens) if "oracle" in world.provides else None
    tokens = Probe(natural.tokens, occurrence > 0, 0, occurrence, None, natural.next_tokens, oracle)
    twice, fourfold = (repeated_blocks(world, sequences, n_ctx, generator, times) for times in (2, 4))
    return _together(twice, fourfold, tokens, fixed)


def random_probes(vocab: int, sequences: int, n_ctx: int, start: int, generator: torch.Generator) -> Probes:
    """Random tokens of a vocabulary, for a model that comes without a world: no triggers, so that all queries count.

    What stands in for sequences of the world are random ones that repeat nothing.
    """
    tokens = torch.tensor([token for token in range(vocab) if token != start])

    def block(length: int) -> Tensor:
        return tokens[torch.randperm(len(tokens), generator=generator)[:length]]

    twice, fourfold = (_repeated(block, sequences, n_ctx, len(tokens), start, times) for times in (2, 4))
    single = torch.stack([block(2 * twice.length) for _ in range(sequences)])
    natural = torch.cat((torch.full((sequences, 1), start), single), dim=1)
    none = torch.zeros_like(natural)
    return _together(twice, fourfold, Probe(natural, none > 0, occurrence=none), torch.tensor([], dtype=torch.long))


def _together(twice: RepeatedBlocks, fourfold: RepeatedBlocks, natural: Probe, fixed: Tensor) -> Probes:
    def probe(tokens: Tensor, blocks: RepeatedBlocks) -> Probe:
        return Probe(tokens, torch.isin(tokens, fixed), blocks.length, control=blocks.control)

    return Probes(
        probe(twice.repeated, twice), probe(twice.control, twice), natural, probe(fourfold.repeated, fourfold)
    )


def repeated_blocks(world: World, batch: int, n_ctx: int, generator: torch.Generator, times: int = 2) -> RepeatedBlocks:
    """Blocks drawn without replacement that contain every trigger, `times` over, after the world's start token.

    length = min((n_ctx - 1) // times, vocab - 1), so times·length + 1 <= n_ctx; where that is too short for all
    triggers, a block has as many as fit. The control keeps the last block, hence its queries, and draws the others
    afresh, so that only the repetition is gone. A world need not have a beginning-of-sequence token:
    `World.start_token`, which no block contains, stands in for it.
    """

    def block(length: int) -> Tensor:
        triggers = torch.tensor(world.triggers)[torch.randperm(len(world.triggers), generator=generator)]
        others = [t for t in range(world.vocab) if t != world.start_token and t not in world.triggers]
        filler = torch.tensor(others)[torch.randperm(len(others), generator=generator)]
        tokens = torch.cat((triggers, filler)).long()[:length]
        return tokens[torch.randperm(length, generator=generator)]

    return _repeated(block, batch, n_ctx, world.vocab - 1, world.start_token, times)


def _repeated(
    block: Callable[[int], Tensor], batch: int, n_ctx: int, most: int, start: int, times: int
) -> RepeatedBlocks:
    length = max(1, min((n_ctx - 1) // times, most))
    begin = torch.full((batch, 1), start)
    again = torch.stack([block(length) for _ in range(batch)])
    others = [torch.stack([block(length) for _ in range(batch)]) for _ in range(times - 1)]
    repeated, control = torch.cat((begin, *[again] * times), dim=1), torch.cat((begin, *others, again), dim=1)
    return RepeatedBlocks(repeated[:, :n_ctx], control[:, :n_ctx], length)  # a context of less than one token a block
