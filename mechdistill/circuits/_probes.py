"""Token sequences that isolate one behaviour: repeated blocks, the same queries without the repetition, and sequences
of the world itself."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mechdistill.world import World


class Probe(NamedTuple):
    """Sequences of one kind and what their positions hold."""

    tokens: Int[Tensor, "batch pos"]
    is_trigger: Bool[Tensor, "batch pos"]
    length: int = 0  # of a repeated block; 0 for sequences of the world
    occurrence: Int[Tensor, "batch pos"] | None = None  # of triggers, in sequences of the world (see `Labels`)


class Probes(NamedTuple):
    """What head scores look at."""

    repeated: Probe  # [start] block block
    control: Probe  # [start] other block, so that the queries are the same and only the repetition is gone
    natural: Probe  # held-out sequences of the world


class RepeatedBlocks(NamedTuple):
    """[start] block block, and a control whose first block is another draw; positions 1 + length .. 2·length query."""

    repeated: Int[Tensor, "batch pos"]
    control: Int[Tensor, "batch pos"]
    length: int


def probes(world: World, sequences: int, n_ctx: int, generator: torch.Generator) -> Probes:
    """So many sequences of each kind."""
    blocks = repeated_blocks(world, sequences, n_ctx, generator)
    fixed = torch.tensor(world.triggers, dtype=torch.long)
    natural = world.evaluation(sequences)
    occurrence = torch.zeros_like(natural.tokens)
    if "triggers" in world.provides:
        occurrence = world.labels(natural.tokens, natural.triggers).occurrence
    return Probes(
        Probe(blocks.repeated, torch.isin(blocks.repeated, fixed), blocks.length),
        Probe(blocks.control, torch.isin(blocks.control, fixed), blocks.length),
        Probe(natural.tokens, occurrence > 0, occurrence=occurrence),
    )


def repeated_blocks(world: World, batch: int, n_ctx: int, generator: torch.Generator) -> RepeatedBlocks:
    """Blocks drawn without replacement that contain every trigger, after the world's start token.

    length = min((n_ctx - 1) // 2, vocab - 1), so 2·length + 1 <= n_ctx. The control keeps the second block, hence
    the queries, and draws its first block afresh, so that only the repetition is gone. A world need not have a
    beginning-of-sequence token: `World.start_token`, which no block contains, stands in for it.
    """
    length = min((n_ctx - 1) // 2, world.vocab - 1)

    def block() -> Tensor:
        triggers = torch.tensor(world.triggers)[torch.randperm(len(world.triggers), generator=generator)]
        others = [t for t in range(world.vocab) if t != world.start_token and t not in world.triggers]
        filler = torch.tensor(others)[torch.randperm(len(others), generator=generator)]
        tokens = torch.cat((triggers, filler)).long()[:length]
        return tokens[torch.randperm(length, generator=generator)]

    start = torch.full((batch, 1), world.start_token)
    first = torch.stack([block() for _ in range(batch)])
    other = torch.stack([block() for _ in range(batch)])
    return RepeatedBlocks(torch.cat((start, first, first), 1), torch.cat((start, other, first), 1), length)
