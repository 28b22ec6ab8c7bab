"""Knocking heads out and measuring what is lost, on copying and on plain bigrams."""

import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet, names
from mechdistill.circuits.ablation import _targets as targets
from mechdistill.circuits.ablation._controls import Stream, clean_streams, displaced, removed
from mechdistill.circuits.ablation._kinds import ABLATIONS, Ablation, Z
from mechdistill.circuits.ablation._targets import Target
from mechdistill.errors import MechdistillError
from mechdistill.model import Model, Transformer
from mechdistill.positions import EvaluationSet, Positions, masked_mean, predict
from mechdistill.tables import ABLATE, frame
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA, Metric
from mechdistill.world import N_BUCKETS

Outputs = list[Z]  # of each layer's heads on the evaluation set

_DRAWS = 5  # of each random control for each set
_OUTSIDE_SETS = 5  # at most so many sets of heads outside the circuit
_SEED = 0  # of ablations that draw


@torch.no_grad()
def clean_outputs(model: Transformer, data: EvaluationSet) -> Outputs:
    """z of every head on the evaluation set."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.config.n_layers)]
    _, cache = model.run_with_cache(data.tokens.to(model.W_E.device), names_filter=names)
    return [cache[name] for name in names]


def replaced(outputs: Outputs, ablation: Ablation) -> Outputs:
    """What the heads write instead, once for the whole sweep; an ablation that draws does so from a seed of its own.

    Raises `MechdistillError` for a replacement of another shape.
    """
    generator = torch.Generator().manual_seed(_SEED)
    instead = [ABLATIONS.call(ablation.name, ablation.replacement, z, generator) for z in outputs]
    for z, other in zip(outputs, instead, strict=True):
        if getattr(other, "shape", None) != z.shape:
            raise MechdistillError(
                f"ablation '{ablation.name}': gave {tuple(getattr(other, 'shape', ()))}; must be the shape of z, "
                f"{tuple(z.shape)}"
            )
    return instead


@contextmanager
def ablated(model: Transformer, heads: HeadSet, instead: Outputs) -> Generator[None]:
    """Inside, the named heads write `instead`; all others compute as usual."""

    def replace(z: Tensor, hook: Any) -> Tensor:
        layer = hook.layer()
        chosen = [h.head for h in heads if h.layer == layer]
        z[:, :, chosen] = instead[layer][:, :, chosen]
        return z

    layers = sorted({h.layer for h in heads})
    with model.hooks(fwd_hooks=[(f"blocks.{layer}.attn.hook_z", replace) for layer in layers]):
        yield


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
    ablations: Iterable[Ablation] | None = None,
) -> pd.DataFrame:
    """What knocking out each head, and the copy circuit as a set, costs: the `ablate` table of one model.

    Metrics are differences to the intact model, nats: `copy-loss-delta`, loss at occurrence >= 2 of a trigger, and
    `bigram-kl-delta`, KL to the oracle where there is no trigger, overall and by row-entropy bucket. 0: the head
    does not matter; copying without any circuit costs up to ln(vocab) and more.

    The column `what` says what was knocked out: a `head`; the circuit's `lookup` heads, its `previous-token` heads,
    or the whole `circuit`; or a control (`control` true) of one of the halves: `outside` heads, as many heads of the
    same layers that belong to no half, where there are enough; a `removed subspace`, as much of the stream lost at
    random (`removed`); and a `rotated edit`, as large an edit while nothing is lost (`displaced`). The last two are
    drawn five times, a row a draw. `ablations` are all of `ABLATIONS` unless given. Raises
    `MechdistillError` for a model without heads. Sources: Olsson et al. 2022 (pattern-preserving and mean ablation),
    Wang et al. 2022 (mean ablation).
    """
    if not isinstance(model, Transformer):
        raise MechdistillError("model.kind=bigram: has no heads to ablate; use a transformer run")
    intact = _effects(predict(model, data))
    rows: list[dict[str, Any]] = []
    for knockout in _knockouts(model, data, circuit, generator, ABLATIONS.values() if ablations is None else ablations):
        with knockout.context():
            damaged = _effects(predict(model, data))
        rows += [
            metric.row(value - intact[metric, bucket], bucket=bucket, **knockout.columns)
            for (metric, bucket), value in damaged.items()
        ]
    return frame(ABLATE, [row for row in rows if math.isfinite(row["value"])])


def _knockouts(
    model: Transformer,
    data: EvaluationSet,
    circuit: CopyCircuit,
    generator: torch.Generator,
    ablations: Iterable[Ablation],
) -> Iterator[Knockout]:
    outputs = clean_outputs(model, data)
    streams = clean_streams(model, data)
    every = [Head(layer, head) for layer in range(model.config.n_layers) for head in range(model.config.n_heads)]
    halves = ((targets.LOOKUP, circuit.lookup), (targets.PREVIOUS_TOKEN, circuit.previous_token))
    for ablation in ablations:
        instead = replaced(outputs, ablation)
        lost = [Stream(*pair) for pair in zip(streams, replaced(streams, ablation), strict=True)]

        def knockout(
            target: Target,
            heads: HeadSet,
            control: Target | None = None,
            ablation: Ablation = ablation,
            instead: Outputs = instead,
            lost: list[Stream] = lost,
        ) -> Knockout:
            columns: dict[str, Any] = {"ablation": ablation.name, "mode": ablation.mode, "control": control is not None}
            columns["what"] = target.name if control is None else targets.control(target, control)
            if target is targets.HEAD:
                columns |= {"layer": heads[0].layer, "head": heads[0].head}
            else:
                columns["heads"] = names(heads)
            if control is targets.REMOVED:
                return Knockout(lambda: removed(model, heads, instead, outputs, lost, generator), columns)
            if control is targets.ROTATED:
                return Knockout(lambda: displaced(model, heads, instead, outputs, generator), columns)
            return Knockout(lambda: ablated(model, heads, instead), columns)

        for head in every:
            yield knockout(targets.HEAD, (head,))
        for half, heads in halves:
            if heads:
                yield knockout(half, heads)
                for others in _outside(every, heads, circuit):
                    yield knockout(half, others, targets.OUTSIDE)
                for control in (targets.REMOVED, targets.ROTATED):
                    for _ in range(_DRAWS):
                        yield knockout(half, heads, control)
        if circuit.heads:
            yield knockout(targets.CIRCUIT, circuit.heads)


def _outside(every: list[Head], heads: HeadSet, circuit: CopyCircuit) -> list[HeadSet]:
    """Sets of as many heads, in the same layers, that belong to no half of the circuit."""
    layers = {head.layer for head in heads}
    others = [head for head in every if head.layer in layers and head not in circuit.heads]
    return list(itertools.islice(itertools.combinations(others, len(heads)), _OUTSIDE_SETS))


def _effects(positions: Positions) -> dict[tuple[Metric, int | None], float]:
    data = positions.data
    effects: dict[tuple[Metric, int | None], float] = {
        (COPY_LOSS_DELTA, None): masked_mean(positions.loss, data.copyable),
        (BIGRAM_KL_DELTA, None): masked_mean(positions.kl, data.ordinary),
    }
    for bucket in range(N_BUCKETS):
        effects[BIGRAM_KL_DELTA, bucket] = masked_mean(positions.kl, data.bucket == bucket)
    return effects
