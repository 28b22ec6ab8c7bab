"""Token sequences that isolate one behaviour: repeated blocks, and the same queries without the repetition."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from mechdistill.sandbox import Sandbox


class RepeatedBlocks(NamedTuple):
    """[start] block block, and a control whose first block is another draw; positions 1 + length .. 2·length query."""

    repeated: Int[Tensor, "batch pos"]
    control: Int[Tensor, "batch pos"]
    length: int


def repeated_blocks(sandbox: Sandbox, batch: int, n_ctx: int, generator: torch.Generator) -> RepeatedBlocks:
    """Blocks drawn without replacement that contain every trigger, after the sandbox's start token.

    length = min((n_ctx - 1) // 2, vocab - 1), so 2·length + 1 <= n_ctx. The control keeps the second block, hence
    the queries, and draws its first block afresh, so that only the repetition is gone. The sandbox has no
    beginning-of-sequence token: `Sandbox.start_token`, which no block contains, stands in for it.
    """
    length = min((n_ctx - 1) // 2, sandbox.vocab - 1)

    def block() -> Tensor:
        triggers = torch.tensor(sandbox.triggers)[torch.randperm(len(sandbox.triggers), generator=generator)]
        others = [t for t in range(sandbox.vocab) if t != sandbox.start_token and t not in sandbox.triggers]
        filler = torch.tensor(others)[torch.randperm(len(others), generator=generator)]
        tokens = torch.cat((triggers, filler)).long()[:length]
        return tokens[torch.randperm(length, generator=generator)]

    start = torch.full((batch, 1), sandbox.start_token)
    first = torch.stack([block() for _ in range(batch)])
    other = torch.stack([block() for _ in range(batch)])
    return RepeatedBlocks(torch.cat((start, first, first), 1), torch.cat((start, other, first), 1), length)
