"""Path patching at the edges of a network, and its first-order screen.

The corrupt sequences are run; what one source wrote in the clean run stands in the place of what it wrote, in what one
reader reads and nowhere else; all that comes after the reader follows from that.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from scipy.special import stdtr
from torch import Tensor

from mechdistill.circuits.paths._edges import Edge, Edges, Node, Reader, edges_of
from mechdistill.circuits.paths._pairs import Pairs
from mechdistill.model import Transformer

Change = Float[Tensor, "pair pos d_model"]

_EXACT = 256  # edges that are patched; of more, those of which the screen says most
_LEVEL = 0.01
_POINTS = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the way from the corrupt to the clean embeddings


class Gap(NamedTuple):
    """What there is to recover: the mean logit difference of the clean run and of the corrupt one."""

    clean: float
    corrupt: float
    p: float
    """Two-sided, of no gap: the t test over pairs. A head that denies what it finds makes a gap below 0."""

    @property
    def size(self) -> float:
        """Logits between the two."""
        return self.clean - self.corrupt

    @property
    def is_there(self) -> bool:
        """Whether the model tells the two apart; a share of nothing would be a number without meaning."""
        return self.p <= _LEVEL


class PathEffect(NamedTuple):
    """One edge: shares of the gap."""

    edge: Edge
    attribution: float
    recovered: float | None
    """None: not patched, as the screen says too little of it."""
    null: float | None
    """The same with what the source wrote in another pair."""


@torch.no_grad()
def copy_gap(model: Transformer, pairs: Pairs) -> Gap:
    """How well the model tells clean from corrupt."""
    clean, corrupt = (pairs.logit_difference(model(tokens)) for tokens in (pairs.clean, pairs.corrupt))
    difference = (clean - corrupt).double()
    n = len(difference)
    p = 1.0
    if n > 1:
        error = max(float(difference.std()), 1e-6) / math.sqrt(n)
        p = 2 * float(stdtr(n - 1, -abs(float(difference.mean())) / error))
    return Gap(float(clean.mean()), float(corrupt.mean()), p)


@torch.no_grad()
def written(model: Transformer, pairs: Pairs) -> dict[Node, Change]:
    """What each source writes in the clean run less what it writes in the corrupt one."""
    layers = range(model.config.n_layers)
    hooks = ["attn.hook_result", *([] if model.config.attn_only else ["hook_mlp_out"])]
    wanted = ["hook_embed", *(f"blocks.{layer}.{hook}" for layer in layers for hook in hooks)]
    clean, corrupt = (model.run_with_cache(tokens, names_filter=wanted)[1] for tokens in (pairs.clean, pairs.corrupt))
    changes = {name: clean[name] - corrupt[name] for name in wanted}
    nodes: dict[Node, Change] = {Node(): changes["hook_embed"]}
    for layer in layers:
        heads = changes[f"blocks.{layer}.attn.hook_result"].unbind(dim=2)
        nodes |= {Node(layer, head): change for head, change in enumerate(heads)}
        if not model.config.attn_only:
            nodes[Node(layer)] = changes[f"blocks.{layer}.hook_mlp_out"]
    return nodes


def _hooks(model: Transformer, reader: Reader, change: Callable[[], Tensor]) -> list[Any]:
    """What adds a change to what a reader reads, and to nothing else: its own projection is made anew."""
    if reader.layer is None:
        return [(f"blocks.{model.config.n_layers - 1}.hook_resid_post", lambda x, hook: x + change())]  # noqa: ARG005
    block, read = model.blocks[reader.layer], list[Tensor]()

    def on_read(stream: Tensor, hook: Any) -> None:  # noqa: ARG001
        read.append(stream)

    def on_mlp(_: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        assert block.mlp is not None
        return block.mlp(block.ln2(read.pop() + change()))

    def on_head(projections: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        weight, bias = _projection(model, reader)
        mine = block.ln1(read.pop() + change()) @ weight
        group = model.config.n_heads // projections.shape[2]
        assert reader.head is not None
        projections[:, :, reader.head // group] = mine if bias is None else mine + bias
        return projections

    before, at, function = (
        ("hook_resid_mid", "hook_mlp_out", on_mlp)
        if reader.input == "mlp"
        else ("hook_resid_pre", f"attn.hook_{reader.input}", on_head)
    )
    return [(f"blocks.{reader.layer}.{before}", on_read), (f"blocks.{reader.layer}.{at}", function)]


def _projection(model: Transformer, reader: Reader) -> tuple[Tensor, Tensor | None]:
    """W [d_model, d_head] and bias with which a head reads."""
    assert reader.layer is not None
    assert reader.head is not None
    attn = model.blocks[reader.layer].attn
    weights = {"q": (attn.W_Q, attn.b_Q), "k": (attn.W_K, attn.b_K), "v": (attn.W_V, attn.b_V)}
    weight, bias = weights[reader.input]
    index = reader.head // (model.config.n_heads // len(weight))
    return weight[index], None if bias is None else bias[index]


@torch.no_grad()
def path_patching(model: Transformer, pairs: Pairs, reader: Reader, change: Change) -> float:
    """Mean logit difference of the corrupt run once `change` is added to what a reader reads."""
    with model.hooks(fwd_hooks=_hooks(model, reader, lambda: change)):
        return float(pairs.logit_difference(model(pairs.corrupt)).mean())


def attribution(
    model: Transformer,
    pairs: Pairs,
    changes: dict[Node, Change],
    edges: Sequence[Edge],
    points: Sequence[float] = _POINTS,
) -> dict[Edge, float]:
    """Attribution patching: Σ (clean - corrupt of the source) · d(mean logit difference)/d(what the reader reads).

    The gradient is the mean of those at some points between the embeddings of the corrupt run (0) and of the clean one
    (1), a pass and its backward each for all edges together. At 0 alone it is blind where attention is sharp. Sources:
    Nanda 2023 (attribution patching); Syed et al. 2023 (at edges); Hanna et al. 2024 (several points).
    """
    readers = list(dict.fromkeys(edge.reader for edge in edges))
    slopes = [_slopes(model, pairs, readers, point * changes[Node()]) for point in points]
    mean = {reader: torch.stack([each[reader] for each in slopes]).mean(dim=0) for reader in readers}
    return {edge: float((changes[edge.source] * mean[edge.reader]).sum()) for edge in edges}


def _slopes(model: Transformer, pairs: Pairs, readers: Sequence[Reader], embedded: Change) -> dict[Reader, Change]:
    """d(mean logit difference)/d(what each reader reads), with something added to the corrupt embeddings."""
    zeros = {reader: torch.zeros_like(embedded).requires_grad_() for reader in readers}
    hooks = [hook for reader in readers for hook in _hooks(model, reader, lambda reader=reader: zeros[reader])]
    hooks.append(("hook_embed", lambda x, hook: x + embedded))  # noqa: ARG005
    with torch.enable_grad(), model.hooks(fwd_hooks=hooks):
        total = pairs.logit_difference(model(pairs.corrupt)).mean()
        return dict(zip(readers, torch.autograd.grad(total, list(zeros.values())), strict=True))


def path_effects(model: Transformer, pairs: Pairs, gap: Gap) -> list[PathEffect]:
    """Every edge of the network by the share of the gap that it recovers.

        recovered = (patched - corrupt) / (clean - corrupt)     in mean logit differences

    0: what the source wrote makes no difference there; 1: this edge alone carries all that tells clean from corrupt.
    Edges in series each recover all of it, and edges in parallel share it. `null` is the same with what the source
    wrote in another pair. Of more than 256 edges those are patched of which `attribution` says most. Sources: Wang et
    al. 2022; Goldowsky-Dill et al. 2023.
    """
    changes = written(model, pairs)
    edges: Edges = edges_of(model)
    screen = attribution(model, pairs, changes, edges)
    kept = set(sorted(edges, key=lambda edge: -abs(screen[edge]))[:_EXACT])
    effects: list[PathEffect] = []
    for edge in edges:
        change = changes[edge.source]
        exact: list[float | None] = [None, None]
        if edge in kept:
            patched = (path_patching(model, pairs, edge.reader, each) for each in (change, change.roll(1, dims=0)))
            exact = [(value - gap.corrupt) / gap.size for value in patched]
        effects.append(PathEffect(edge, screen[edge] / gap.size, *exact))
    return effects
