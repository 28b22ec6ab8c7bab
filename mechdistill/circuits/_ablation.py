"""Knocking heads out and measuring what is lost, on copying and on plain bigrams."""

import itertools
import math
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet, names
from mechdistill.errors import MechdistillError
from mechdistill.model import Model, Transformer
from mechdistill.positions import EvaluationSet, Positions, masked_mean, predict
from mechdistill.sandbox import N_BUCKETS
from mechdistill.tables import frame

Outputs = list[Float[Tensor, "batch pos head d_head"]]  # of each layer's heads on the unablated model


def zero(z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos head d_head"]:
    """Zero ablation: the head writes nothing. Off-distribution, since the rest expects its average."""
    return torch.zeros_like(z)


def mean(z: Float[Tensor, "batch pos head d_head"]) -> Float[Tensor, "batch pos head d_head"]:
    """Mean ablation: the head writes its average over sequences and positions, whatever it attends to."""
    return z.mean(dim=(0, 1), keepdim=True).expand_as(z)


ABLATIONS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "zero": zero}


@torch.no_grad()
def clean_outputs(model: Transformer, data: EvaluationSet) -> Outputs:
    """z of every head on the evaluation set."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.config.n_layers)]
    _, cache = model.run_with_cache(data.tokens.to(model.W_E.device), names_filter=names)
    return [cache[name] for name in names]


@contextmanager
def ablated(model: Transformer, heads: HeadSet, ablation: str, outputs: Outputs) -> Generator[None]:
    """Inside, the named heads write what `ablation` says; all others compute as usual."""

    def replace(z: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        chosen = [h.head for h in heads if h.layer == layer]
        z[:, :, chosen] = ABLATIONS[ablation](outputs[layer])[:, :, chosen]
        return z

    layers = sorted({h.layer for h in heads})
    with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", replace) for layer in layers]):
        yield


@contextmanager
def displaced(
    model: Transformer, heads: HeadSet, ablation: str, outputs: Outputs, generator: torch.Generator
) -> Generator[None]:
    """A norm-matched control: the edit that ablating `heads` makes, carried into a random subspace.

    Ablating heads adds Δ = Σ_h (replacement_h - z_h) W_O_h to a layer's attention output. Here Δ·R is added instead,
    with R a random orthogonal matrix: the same size at every position, in directions that mean nothing.
    """

    def displace(attn_out: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        chosen = [h.head for h in heads if h.layer == layer]
        change = ABLATIONS[ablation](outputs[layer]) - outputs[layer]
        delta = torch.einsum("bphd,hdm->bpm", change[:, :, chosen], model.blocks[layer].attn.W_O[chosen])
        return attn_out + delta @ rotations[layer]

    layers = sorted({h.layer for h in heads})
    rotations = {layer: _random_rotation(model.config.d_model, generator).to(model.W_E) for layer in layers}
    with model.hooks(fwd_hooks=[(f"blocks.{layer}.hook_attn_out", displace) for layer in layers]):
        yield


def _random_rotation(n: int, generator: torch.Generator) -> Tensor:
    q, r = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


_RANDOM_SUBSPACES = 5  # draws of the norm-matched control for each set
_OUTSIDE_SETS = 5  # at most so many sets of heads outside the circuit


Damage = Callable[[HeadSet, str], AbstractContextManager[None]]


class Knockout(NamedTuple):
    """One thing to measure: a context in which the model is damaged, and the columns that say how."""

    context: Callable[[], AbstractContextManager[None]]
    columns: dict[str, Any]


def ablate(
    model: Model,
    data: EvaluationSet,
    circuit: CopyCircuit,
    generator: torch.Generator,
    *,
    ablations: tuple[str, ...] = ("mean", "zero"),
) -> pd.DataFrame:
    """What knocking out each head, and the copy circuit as a set, costs: the `ablate` table of one model.

    Metrics are differences to the intact model, nats: `copy-loss-delta`, loss at occurrence >= 2 of a trigger, and
    `bigram-kl-delta`, KL to the oracle where there is no trigger, overall and by row-entropy bucket. 0: the head
    does not matter; copying without any circuit costs up to ln(vocab) and more.

    The column `what` says what was knocked out: a `head`; the circuit's `lookup` heads, its `previous-token` heads,
    or the whole `circuit`; or a control (`control` true) of one of the halves: `outside` heads, as many heads of the
    same layers that belong to no half, where there are enough; and a `random subspace`, which receives an edit of
    the same norm (`displaced`), drawn several times. Raises `MechdistillError` for a model without
    heads. Sources: Olsson et al. 2022 (pattern-preserving and mean ablation), Wang et al. 2022 (mean ablation).
    """
    if not isinstance(model, Transformer):
        raise MechdistillError("model.kind=bigram: has no heads to ablate; use a transformer run")
    intact = _effects(predict(model, data))
    rows: list[dict[str, Any]] = []
    for knockout in _knockouts(model, data, circuit, generator, ablations):
        with knockout.context():
            damaged = _effects(predict(model, data))
        for (metric, bucket), value in damaged.items():
            rows.append(
                {
                    "metric": metric,
                    "value": value - intact[metric, bucket],
                    "bucket": bucket,
                    "mode": "full",
                    **knockout.columns,
                }
            )
    return frame("ablate", [row for row in rows if math.isfinite(row["value"])])


def _knockouts(
    model: Transformer,
    data: EvaluationSet,
    circuit: CopyCircuit,
    generator: torch.Generator,
    ablations: tuple[str, ...],
) -> Iterator[Knockout]:
    outputs = clean_outputs(model, data)
    every = [Head(layer, head) for layer in range(model.config.n_layers) for head in range(model.config.n_heads)]
    for ablation in ablations:

        def knockout(what: str, heads: HeadSet, damage: Damage, ablation: str = ablation) -> Knockout:
            columns = {"what": what, "ablation": ablation, "control": ":" in what}
            if what == "head":
                columns |= {"layer": heads[0].layer, "head": heads[0].head}
            else:
                columns["heads"] = names(heads)
            return Knockout(lambda: damage(heads, ablation), columns)

        def remove(heads: HeadSet, ablation: str) -> AbstractContextManager[None]:
            return ablated(model, heads, ablation, outputs)

        def displace(heads: HeadSet, ablation: str) -> AbstractContextManager[None]:
            return displaced(model, heads, ablation, outputs, generator)

        for head in every:
            yield knockout("head", (head,), remove)
        for half, heads in (("lookup", circuit.lookup), ("previous-token", circuit.previous_token)):
            if heads:
                yield knockout(half, heads, remove)
                for others in _outside(every, heads, circuit):
                    yield knockout(f"{half}: outside", others, remove)
                for _ in range(_RANDOM_SUBSPACES):
                    yield knockout(f"{half}: random subspace", heads, displace)
        if circuit.heads:
            yield knockout("circuit", circuit.heads, remove)


def _outside(every: list[Head], heads: HeadSet, circuit: CopyCircuit) -> list[HeadSet]:
    """Sets of as many heads, in the same layers, that belong to no half of the circuit."""
    layers = {head.layer for head in heads}
    others = [head for head in every if head.layer in layers and head not in circuit.heads]
    return list(itertools.islice(itertools.combinations(others, len(heads)), _OUTSIDE_SETS))


def _effects(positions: Positions) -> dict[tuple[str, int | None], float]:
    data = positions.data
    effects: dict[tuple[str, int | None], float] = {
        ("copy-loss-delta", None): masked_mean(positions.loss, data.copyable),
        ("bigram-kl-delta", None): masked_mean(positions.kl, data.ordinary),
    }
    for bucket in range(N_BUCKETS):
        effects["bigram-kl-delta", bucket] = masked_mean(positions.kl, data.labels.bucket == bucket)
    return effects
