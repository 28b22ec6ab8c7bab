"""A damaged forward pass: heads that write something else, and, in one mode, later heads that do not notice.

Every damage is something that is added to the attention output of some layers, a function of what is seen there. So a
damage can be done by hooks (`ablated`, `damaged`: for looking at what happens) and without any (`_fast`).
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits._heads import HeadSet
from mechdistill.circuits.ablation._kinds import Z
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet

Pattern = Float[Tensor, "batch head query source"]  # of a layer's heads on the unablated model
Added = Float[Tensor, "batch pos d_model"]


@dataclass(frozen=True)
class Mode:
    """What later heads make of a knockout."""

    name: str
    """As in the column `mode`."""
    label: str
    frozen: bool
    """Whether all attention patterns are held as they are in the intact model."""


FULL = Mode("full", "everything later reacts", frozen=False)
PATTERN_PRESERVING = Mode("pattern-preserving", "patterns held as they were", frozen=True)
"""Every head of every layer attends as it does in the intact model; only what its values carry can change. What is lost
in `full` and not here is what the heads tell later ones about where to look. Nothing attends later than the last layer,
where the two are one. Source: Olsson et al. 2022, who zero what heads write and hold the patterns of a first pass."""

MODES = (FULL, PATTERN_PRESERVING)
"""The first is the one that is meant where none is named."""


class Seen(NamedTuple):
    """One layer's attention in a pass over some sequences."""

    resid_pre: Float[Tensor, "batch pos d_model"]
    """What it read."""
    z: Z
    attn_out: Float[Tensor, "batch pos d_model"]
    """What it wrote, undamaged in this layer."""


@runtime_checkable
class Damage(Protocol):
    """What is done to a forward pass."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers whose attention output is changed, in order, at least one; before the first all is as ever."""
        ...

    def added(self, layer: int, seen: Seen, rows: slice) -> Added:
        """What is added to a layer's attention output; `rows`: which sequences of the evaluation set they are."""
        ...


@dataclass(frozen=True, eq=False)
class KnockedOut:
    """Heads that write something else: Δ = Σ_h (instead_h - z_h) W_O_h."""

    model: Transformer
    heads: HeadSet
    instead: Sequence[Z]
    """Of each layer, on the whole evaluation set."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the heads."""
        return layers_of(self.heads)

    def added(self, layer: int, seen: Seen, rows: slice) -> Added:
        """Δ."""
        return self.delta(layer, seen.z, rows)

    def delta(self, layer: int, z: Z, rows: slice) -> Added:
        """Δ where the layer's heads would write z."""
        chosen = [h.head for h in self.heads if h.layer == layer]
        change = self.instead[layer][rows][:, :, chosen] - z[:, :, chosen]
        return change.flatten(2) @ self.model.blocks[layer].attn.W_O[chosen].flatten(0, 1)


def layers_of(heads: HeadSet) -> tuple[int, ...]:
    """The layers of some heads, in order."""
    return tuple(sorted({h.layer for h in heads}))


@torch.no_grad()
def clean_outputs(model: Transformer, data: EvaluationSet) -> list[Z]:
    """z of every head on the evaluation set, layer by layer."""
    return _clean(model, data, "hook_z")


@torch.no_grad()
def clean_patterns(model: Transformer, data: EvaluationSet) -> list[Pattern]:
    """The attention pattern of every head on the evaluation set, layer by layer: what `pattern-preserving` holds."""
    return _clean(model, data, "hook_pattern")


def _clean(model: Transformer, data: EvaluationSet, hook: str) -> list[Tensor]:
    names = [f"blocks.{layer}.attn.{hook}" for layer in range(model.config.n_layers)]
    _, cache = model.run_with_cache(data.tokens.to(model.W_E.device), names_filter=names)
    return [cache[name] for name in names]


@contextmanager
def ablated(
    model: Transformer, heads: HeadSet, instead: Sequence[Z], patterns: Sequence[Pattern] | None = None
) -> Generator[None]:
    """Inside, the named heads write `instead`; all others compute as usual.

    Given `patterns`, every head attends by them: the `pattern-preserving` mode, if they are `clean_patterns`. The model
    must be run on the sequences that these are of.
    """

    def replace(z: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        chosen = [h.head for h in heads if h.layer == layer]
        z[:, :, chosen] = instead[layer][:, :, chosen]
        return z

    hooks: list[Any] = [(f"blocks.{layer}.attn.hook_z", replace) for layer in layers_of(heads)]
    with model.hooks(fwd_hooks=[*hooks, *_holding(patterns)]):
        yield


@contextmanager
def damaged(model: Transformer, damage: Damage, patterns: Sequence[Pattern] | None = None) -> Generator[None]:
    """Inside, a damage is done to every pass over the evaluation set; see `ablated` for `patterns`."""
    read: dict[int, Tensor] = {}
    z: dict[int, Tensor] = {}

    def on_read(resid_pre: Tensor, hook: Any) -> None:
        read[hook.layer()] = resid_pre

    def on_z(heads: Tensor, hook: Any) -> None:
        z[hook.layer()] = heads

    def on_written(attn_out: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        return attn_out + damage.added(layer, Seen(read[layer], z[layer], attn_out), slice(None))

    at: tuple[Any, ...] = (("hook_resid_pre", on_read), ("attn.hook_z", on_z), ("hook_attn_out", on_written))
    hooks = [(f"blocks.{layer}.{name}", function) for layer in damage.layers for name, function in at]
    with model.hooks(fwd_hooks=[*hooks, *_holding(patterns)]):
        yield


def _holding(patterns: Sequence[Pattern] | None) -> list[Any]:
    def hold(_: Tensor, hook: Any) -> Tensor:
        assert patterns is not None
        return patterns[hook.layer()].clone()

    return [(f"blocks.{layer}.attn.hook_pattern", hold) for layer in range(len(patterns or ()))]
