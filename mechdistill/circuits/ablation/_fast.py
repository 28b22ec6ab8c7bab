"""Many damages of one model at the price of less than a pass each.

What comes before the first damaged layer is that of the intact model, which is run once; that layer's attention is not
run again either, since a damage is something added to its output. So a pass begins with the MLP of that layer, and
damages that begin in the same layer go through the later ones together, as one batch. With patterns held, later
attention needs no queries and keys.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mechdistill.circuits.ablation._damage import Damage, Pattern, Seen
from mechdistill.circuits.ablation._effects import EFFECTS, Logits, Reading
from mechdistill.errors import MechdistillError
from mechdistill.model import Clamped, Transformer, clamped_patterns
from mechdistill.positions import EvaluationSet

_TOKENS = 4096
"""In one batch, of all its damages: measured best on a CPU from 64 to 128 dimensions, and flat from there to 16384."""


class Task(NamedTuple):
    """A damage, and whether all patterns are held; no damage is the intact model."""

    damage: Damage | None
    frozen: bool = False


class _Prefix(NamedTuple):
    """The intact model on some sequences."""

    seen: list[Seen]
    patterns: list[Pattern]
    logits: Logits
    clamped: dict[int, Clamped]
    """Patterns that heads of the model are held at, whatever is damaged."""


@torch.no_grad()
def losses(model: Transformer, data: EvaluationSet, tasks: Sequence[Task]) -> list[Tensor]:
    """Mean loss or KL of each task for each of `EFFECTS`; nan where an effect has no position.

    Equal to a pass a damage under `damaged` up to rounding. Raises `MechdistillError` for a model with hooks attached,
    which would hear these passes cut and stacked.
    """
    heard = [name for name, point in model.hook_dict.items() if point.has_hooks()]
    if heard:
        raise MechdistillError(f"model: a hook is attached to {heard[0]}; ablate a bare model, after reset_hooks()")
    device = model.W_E.device
    groups: dict[tuple[int, bool], list[tuple[int, Damage]]] = defaultdict(list)
    for number, (damage, frozen) in enumerate(tasks):
        if damage is not None:
            groups[damage.layers[0], frozen].append((number, damage))
    intact = [number for number, task in enumerate(tasks) if task.damage is None]
    sums = torch.zeros(len(tasks), len(EFFECTS), dtype=torch.float64, device=device)
    counts = torch.zeros(len(EFFECTS), dtype=torch.float64)
    for first, part in data.chunks():
        for rows in _slices(len(part), max(1, _TOKENS // part.tokens.shape[1])):
            reading = Reading(part, rows, device)
            counts += reading.counts
            prefix = _run(model, part.tokens[rows].to(device), frozen=any(task.frozen for task in tasks))
            sums[intact] += reading.sums(prefix.logits)
            here = slice(first + rows.start, first + rows.stop)
            together = max(1, _TOKENS // prefix.logits[..., 0].numel())
            for (_, held), group in groups.items():
                for batch in _slices(len(group), together):
                    numbers, damages = zip(*group[batch], strict=True)
                    for number, logits in zip(numbers, _tail(model, prefix, damages, here, held=held), strict=True):
                        sums[number] += reading.sums(logits)
    return list(sums.cpu() / counts)


def _slices(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _run(model: Transformer, tokens: Tensor, *, frozen: bool) -> _Prefix:
    hooks = ["hook_resid_pre", "attn.hook_z", "hook_attn_out", *["attn.hook_pattern"] * frozen]
    layers = range(model.config.n_layers)
    logits, cache = model.run_with_cache(tokens, names_filter=[f"blocks.{i}.{hook}" for i in layers for hook in hooks])
    seen = [Seen(*(cache[f"blocks.{i}.{hook}"] for hook in hooks[:3])) for i in layers]
    patterns = [cache[f"blocks.{i}.attn.hook_pattern"] for i in layers if frozen]
    return _Prefix(seen, patterns, logits, clamped_patterns(model.config.clamps, tokens, 0))


def _tail(
    model: Transformer, prefix: _Prefix, damages: Sequence[Damage], rows: slice, *, held: bool
) -> Iterator[Logits]:
    """Logits under each of some damages that begin in the same layer."""
    start = damages[0].layers[0]
    seen = prefix.seen[start]
    x = torch.cat([seen.resid_pre + seen.attn_out + damage.added(start, seen, rows) for damage in damages])
    x = _mlp(model, start, x)
    for layer in range(start + 1, model.config.n_layers):
        again = [layer in damage.layers for damage in damages]
        if held:
            z, out = _held(model, layer, x, prefix.patterns[layer].repeat(len(damages), 1, 1, 1))
        else:
            ideal = prefix.clamped.get(layer, {})
            clamped = {head: pattern.repeat(len(damages), 1, 1) for head, pattern in ideal.items()}
            z, out = _attention(model, layer, x, clamped, listen=any(again))
        parts = [each.chunk(len(damages)) for each in (x, z, out)]
        for damage, also, *read in zip(damages, again, *parts, strict=True):
            if also:
                read[2] += damage.added(layer, Seen(*read), rows)
        x = _mlp(model, layer, x + out)
    return iter((model.ln_final(x) @ model.W_U).chunk(len(damages)))


def _mlp(model: Transformer, layer: int, x: Tensor) -> Tensor:
    block = model.blocks[layer]
    return x if block.mlp is None else x + block.mlp(block.ln2(x))


def _attention(model: Transformer, layer: int, x: Tensor, clamped: Clamped, *, listen: bool) -> tuple[Tensor, Tensor]:
    """z, where somebody asks for it, else nothing; and the attention output."""
    block = model.blocks[layer]
    heard: list[Tensor] = []

    def keep(z: Tensor, hook: Any) -> None:  # noqa: ARG001  (as of a hook)
        heard.append(z)

    with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", keep)] * listen):
        out = block.attn(*block.attn.qkv(block.ln1(x)), None, clamped)
    return (heard[0] if heard else out.new_empty(len(x), 0)), out


def _held(model: Transformer, layer: int, x: Tensor, pattern: Pattern) -> tuple[Tensor, Tensor]:
    """z and the attention output of heads that attend by a pattern."""
    block = model.blocks[layer]
    attn = block.attn
    bias = None if attn.b_V is None else attn.b_V.flatten()
    v = F.linear(block.ln1(x), attn.W_V.transpose(1, 2).flatten(0, 1), bias)
    v = v.view(*x.shape[:2], -1, attn.d_head).transpose(1, 2)
    v = v.repeat_interleave(pattern.shape[1] // v.shape[1], dim=1)
    z = (pattern @ v).transpose(1, 2)
    out = z.flatten(2) @ attn.W_O.flatten(0, 1)
    return z, out if attn.b_O is None else out + attn.b_O
