"""What a set of heads is held against: an edit of the same size that says nothing, and a loss of as much of anything.

Both act on the residual stream just after a layer's attention, where the heads write. They are drawn, so several are
made and their spread is shown.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from mechdistill.circuits._heads import HeadSet
from mechdistill.circuits.ablation._kinds import Z
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet

_NO_SIZE = 1e-10  # of a direction's share in an edit's squared size, in float32


class Stream(NamedTuple):
    """The residual stream after one layer's attention, as a head of width d_model: [batch, pos, 1, d_model]."""

    clean: Z
    instead: Z
    """What the ablation would put in its place, were it a head."""


@torch.no_grad()
def clean_streams(model: Transformer, data: EvaluationSet) -> list[Z]:
    """The stream after each layer's attention on the evaluation set."""
    layers = range(model.config.n_layers)
    names = [f"blocks.{layer}.{hook}" for layer in layers for hook in ("hook_resid_pre", "hook_attn_out")]
    _, cache = model.run_with_cache(data.tokens.to(model.W_E.device), names_filter=names)
    return [(cache[f"blocks.{i}.hook_resid_pre"] + cache[f"blocks.{i}.hook_attn_out"])[:, :, None] for i in layers]


def edit(model: Transformer, heads: HeadSet, layer: int, instead: Z, outputs: Z) -> Float[Tensor, "batch pos d_model"]:
    """What ablating the heads of a layer adds to its attention output: Δ = Σ_h (replacement_h - z_h) W_O_h."""
    chosen = [h.head for h in heads if h.layer == layer]
    return torch.einsum("bphd,hdm->bpm", (instead - outputs)[:, :, chosen], model.blocks[layer].attn.W_O[chosen])


@contextmanager
def displaced(
    model: Transformer, heads: HeadSet, instead: list[Z], outputs: list[Z], generator: torch.Generator
) -> Generator[None]:
    """A control for the size of the edit: Δ·R is added, the heads' own output stays, and so does all they know.

    R is a random orthogonal matrix: the same size as the edit at every position, in directions that mean nothing.
    """
    added: dict[int, Tensor] = {}
    for layer in sorted({h.layer for h in heads}):
        rotation = _random_rotation(model.config.d_model, generator).to(model.W_E)
        added[layer] = edit(model, heads, layer, instead[layer], outputs[layer]) @ rotation

    def displace(attn_out: Tensor, hook: Any) -> Tensor:
        return attn_out + added[hook.layer()]

    with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_attn_out", displace) for layer in added]):
        yield


@contextmanager
def removed(
    model: Transformer,
    heads: HeadSet,
    instead: list[Z],
    outputs: list[Z],
    streams: list[Stream],
    generator: torch.Generator,
) -> Generator[None]:
    """A control for the loss: what a random subspace of the stream holds is replaced, as the ablation replaces heads.

    x becomes x + (replacement(x) - x) Q Qᵀ with orthonormal Q [d_model, rank]: nothing is left in the subspace but the
    replacement. Rank and mean squared size on the clean stream are those of Δ, what the ablation itself adds; see
    `random_subspace`.
    """
    subspaces: dict[int, Tensor] = {}
    for layer in sorted({h.layer for h in heads}):
        delta = edit(model, heads, layer, instead[layer], outputs[layer]).flatten(0, 1)
        change = (streams[layer].instead - streams[layer].clean).flatten(0, 2)
        subspaces[layer] = random_subspace(change, delta, generator).to(model.W_E)
    before: dict[int, Tensor] = {}

    def remember(resid_pre: Tensor, hook: Any) -> None:
        before[hook.layer()] = resid_pre

    def remove(attn_out: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        change = streams[layer].instead[:, :, 0] - before[layer] - attn_out
        return attn_out + change @ subspaces[layer] @ subspaces[layer].T

    hooks: list[Any] = [(f"blocks.{layer}.hook_resid_pre", remember) for layer in subspaces]
    with model.hooks(fwd_hooks=[*hooks, *((f"blocks.{layer}.hook_attn_out", remove) for layer in subspaces)]):
        yield


def random_subspace(
    change: Float[Tensor, "position d_model"],
    delta: Float[Tensor, "position d_model"],
    generator: torch.Generator,
) -> Float[Tensor, "d_model rank"]:
    """An orthonormal basis of a random subspace, of delta's rank, that holds as much of `change` as delta is large.

    With C = mean of changeᵀ change, a uniformly random subspace is turned towards the directions that hold most, or
    least, until the Q it spans has tr(QᵀCQ) = mean ‖delta‖². Where any subspace of that rank holds more, the rank is
    that of which a random one holds so much on average; it is never all of the stream. Where any holds less, it is the
    one that holds most.
    """
    size = float(delta.double().square().sum(dim=1).mean())
    of_delta = torch.linalg.eigvalsh(delta.double().T @ delta.double()).cpu()
    held, directions = torch.linalg.eigh((change.double().T @ change.double()).cpu() / len(change))
    rank = min(int((of_delta > _NO_SIZE * of_delta[-1]).sum()), len(held) - 1)
    if float(held[:rank].sum()) > size:
        rank = round(size / float(held.mean()))
    rank = max(rank, 1)
    start = _random_rotation(len(held), generator)[:, :rank]

    def beyond(basis: Tensor) -> float:
        return float((basis.square() * held[:, None]).sum()) - size

    extreme = torch.eye(len(held), dtype=torch.float64)
    extreme = extreme[:, -rank:] if beyond(start) < 0 else extreme[:, :rank]
    u, _, v = torch.linalg.svd(extreme.T @ start)
    extreme = extreme @ u @ v  # the basis of it that is nearest to the start

    def turned(by: float) -> Tensor:
        return torch.linalg.qr((1 - by) * start + by * extreme).Q

    if beyond(start) * beyond(extreme) >= 0:
        return directions @ extreme
    by: Any = brentq(lambda by: beyond(turned(by)), 0.0, 1.0, xtol=1e-9)
    return directions @ turned(float(by))


def _random_rotation(n: int, generator: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()
