"""Sampling from a model, many sequences at once, each position read once."""

import math

import torch
from jaxtyping import Int
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.model._bigram import Bigram
from mechdistill.model._transformer import Transformer


@torch.no_grad()
def generate(
    model: Transformer | Bigram,
    prompts: Int[Tensor, "batch pos"],
    n_new: int,
    *,
    temperature: float = 1.0,
    generator: torch.Generator,
) -> Int[Tensor, "batch all"]:
    """The prompts, each followed by n_new tokens drawn one by one from softmax(logits / temperature).

    [batch, pos] -> [batch, pos + n_new]; temperature 0 takes the likeliest token. Tokens are drawn on the generator's
    device, so a CPU generator gives the same draws wherever the model is. Hooks stay active; they see the prompt's
    positions once and then one new position at a time, so an edit must not count positions from the start.

    Raises `MechdistillError` if there is no prompt token to start from, if pos + n_new exceeds n_ctx, or for a
    temperature below 0 or infinite.
    """
    batch, start = prompts.shape
    if start == 0:
        raise MechdistillError("prompts: must have at least one token to start from")
    if n_new < 0:
        raise MechdistillError(f"n_new={n_new}: must be at least 0")
    if start + n_new > model.n_ctx:
        raise MechdistillError(
            f"n_new={n_new}: {start} prompt tokens and {n_new} new ones exceed n_ctx={model.n_ctx}; "
            f"ask for at most {max(0, model.n_ctx - start)}"
        )
    if not 0 <= temperature < math.inf:
        raise MechdistillError(f"temperature={temperature}: must be at least 0 and finite")
    tokens = torch.cat([prompts, prompts.new_zeros(batch, n_new)], dim=1)
    cache = model.kv_cache(batch, start + n_new) if isinstance(model, Transformer) else None
    read = 0
    for stop in range(start, start + n_new):
        new = tokens[:, read:stop]
        logits = (model(new) if cache is None else model(new, cache=cache))[:, -1]
        tokens[:, stop] = _draw(logits, temperature, generator)
        read = stop
    return tokens


def _draw(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=-1)
    # the likeliest token's logit is 0 first, so that a tiny temperature cannot overflow
    law = ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)
    return torch.multinomial(law.to(generator.device), 1, generator=generator)[:, 0].to(logits.device)
