"""What a set of heads is held against: an edit of the same size that says nothing, and a loss of as much of anything.

Both act on the residual stream just after a layer's attention, where the heads write. They are drawn, so several are
made and their spread is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from mechdistill.circuits.ablation._damage import Added, KnockedOut, Seen
from mechdistill.circuits.ablation._kinds import Z
from mechdistill.model import Transformer
from mechdistill.positions import EvaluationSet

_NO_SIZE = 1e-10  # of a direction's share in an edit's squared size, in float32

Moment = Float[Tensor, "d_model d_model"]  # mean over positions of x xᵀ, in float64 on the CPU


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


class Edits:
    """What knocking heads out adds to the stream of the intact model, layer by layer: Δ."""

    def __init__(self, knocked_out: KnockedOut, outputs: Sequence[Z]):
        """`outputs` are the clean ones."""
        self.knocked_out, self.outputs, self.layers = knocked_out, outputs, knocked_out.layers
        self.moments = {layer: moment(self.at(layer, slice(None))) for layer in self.layers}

    def at(self, layer: int, rows: slice) -> Added:
        """Δ of a layer on some sequences of the evaluation set."""
        return self.knocked_out.delta(layer, self.outputs[layer][rows], rows)


@dataclass(frozen=True, eq=False)
class Displaced:
    """A control for the size of the edit: Δ·R is added, the heads' own output stays, and so does all they know.

    R is a random orthogonal matrix: the same size as the edit at every position, in directions that mean nothing.
    """

    edits: Edits
    rotations: dict[int, Tensor]

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the heads."""
        return self.edits.layers

    def added(self, layer: int, seen: Seen, rows: slice) -> Added:  # noqa: ARG002  (as of a damage)
        """Δ·R, Δ on the intact model."""
        return self.edits.at(layer, rows) @ self.rotations[layer]


def displaced(edits: Edits, generator: torch.Generator) -> Displaced:
    """One draw; see `Displaced`."""
    model = edits.knocked_out.model
    drawn = {layer: _random_rotation(model.config.d_model, generator).to(model.W_E) for layer in edits.layers}
    return Displaced(edits, drawn)


@dataclass(frozen=True, eq=False)
class Removed:
    """A control for the loss: what a random subspace of the stream holds is replaced, as the ablation replaces heads.

    x becomes x + (replacement(x) - x) Q Qᵀ with orthonormal Q [d_model, rank]: nothing is left in the subspace but the
    replacement. Rank and mean squared size on the clean stream are those of Δ, what the ablation itself adds; see
    `random_subspace`.
    """

    streams: Sequence[Stream]
    subspaces: dict[int, Tensor]

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of the heads."""
        return tuple(self.subspaces)

    def added(self, layer: int, seen: Seen, rows: slice) -> Added:
        """(replacement(x) - x) Q Qᵀ, x as it is in this pass."""
        change = self.streams[layer].instead[rows][:, :, 0] - seen.resid_pre - seen.attn_out
        return change @ self.subspaces[layer] @ self.subspaces[layer].T


def removed(edits: Edits, streams: Sequence[Stream], changes: Sequence[Moment], generator: torch.Generator) -> Removed:
    """One draw; see `Removed`. `changes` are of each layer, the moments of replacement(x) - x on the clean stream."""
    to = edits.knocked_out.model.W_E
    drawn = {i: random_subspace(changes[i], edits.moments[i], generator).to(to) for i in edits.layers}
    return Removed(streams, drawn)


def moment(x: Float[Tensor, "*positions d_model"]) -> Moment:
    """Mean over positions of x xᵀ; its trace is the mean squared size."""
    rows = x.flatten(0, -2).double()
    return (rows.T @ rows).cpu() / len(rows)


def random_subspace(change: Moment, delta: Moment, generator: torch.Generator) -> Float[Tensor, "d_model rank"]:
    """An orthonormal basis of a random subspace, of delta's rank, that holds as much of `change` as delta is large.

    With C the moment of `change`, a uniformly random subspace is turned towards the directions that hold most, or
    least, until the Q it spans has tr(QᵀCQ) = mean ‖delta‖². Where any subspace of that rank holds more, the rank is
    that of which a random one holds so much on average; it is never all of the stream. Where any holds less, it is the
    one that holds most.
    """
    size = float(delta.trace())
    of_delta = torch.linalg.eigvalsh(delta)
    held, directions = torch.linalg.eigh(change)
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
