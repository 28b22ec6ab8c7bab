"""Knocking heads out and measuring what is lost, on copying and on plain bigrams."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import torch

from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet, names
from mechdistill.circuits.ablation import _targets as targets
from mechdistill.circuits.ablation._controls import Edits, Stream, clean_streams, displaced, moment, removed
from mechdistill.circuits.ablation._damage import FULL, MODES, Damage, KnockedOut, Mode, clean_outputs
from mechdistill.circuits.ablation._effects import EFFECTS
from mechdistill.circuits.ablation._fast import Task, losses
from mechdistill.circuits.ablation._kinds import ABLATIONS, Ablation, Z
from mechdistill.circuits.ablation._targets import Target
from mechdistill.errors import MechdistillError
from mechdistill.model import Model, Transformer
from mechdistill.positions import EvaluationSet
from mechdistill.tables import ABLATE, frame
from mechdistill.tables.metrics import COPY_LOSS_DELTA, SELF_REPAIR

_DRAWS = 5  # of each random control for each set
_OUTSIDE_SETS = 5  # at most so many sets of heads outside the circuit
_SEED = 0  # of ablations that draw


def replaced(outputs: Sequence[Z], ablation: Ablation) -> list[Z]:
    """What the heads write instead, layer by layer, once for the whole sweep.

    An ablation that draws does so from the same seed at every layer, so that heads of several layers are given the
    same: of one other sequence, say. Raises `MechdistillError` for a replacement of another shape or dtype, and for
    values that are not finite.
    """
    # a copy each: a user's function may edit what it is given
    instead = [
        ABLATIONS.call(ablation.name, ablation.replacement, z.clone(), torch.Generator().manual_seed(_SEED))
        for z in outputs
    ]
    for z, other in zip(outputs, instead, strict=True):
        if getattr(other, "shape", None) != z.shape:
            raise MechdistillError(
                f"ablation '{ablation.name}': gave {tuple(getattr(other, 'shape', ()))}; must be the shape of z, "
                f"{tuple(z.shape)}"
            )
        if other.dtype != z.dtype:
            raise MechdistillError(f"ablation '{ablation.name}': gave {other.dtype}; must be that of z, {z.dtype}")
        if not other.isfinite().all():
            raise MechdistillError(f"ablation '{ablation.name}': gave values that are not finite; must be numbers")
    return instead


class Knockout(NamedTuple):
    """One thing to measure: how the model is damaged, and the columns that say so."""

    damage: Damage
    mode: Mode
    columns: dict[str, Any]
    heads: HeadSet
    """Of which the joint effect is measured; none for a control."""


def ablate(
    model: Model,
    data: EvaluationSet,
    circuit: CopyCircuit,
    generator: torch.Generator,
    *,
    ranked: HeadSet = (),
    ablations: Iterable[Ablation] | None = None,
) -> pd.DataFrame:
    """What knocking out each head, and sets of heads, costs: the `ablate` table of one model.

    Metrics are differences to the intact model, nats: `copy-loss-delta`, loss at occurrence >= 2 of a trigger, and
    `bigram-kl-delta`, KL to the oracle where there is no trigger, overall and by row-entropy bucket. 0: the head
    does not matter; copying without any circuit costs up to ln(vocab) and more. Of a set, `self-repair` is what losing
    it costs (copy loss) minus the sum of what each of its heads costs alone: 0 for heads that have nothing to do with
    each other and for a set of one; positive where they stand in for each other, as two copies of one head do; negative
    where each needs the other, as an induction head and the head that feeds it.

    The column `what` says what was knocked out: a `head`; a `pair` (see `targets.pairs`); the first n of `ranked`,
    heads from the strongest, as `top-n`; the circuit's `lookup` heads, its `previous-token` heads, or the whole
    `circuit`; or a control (`control` true) of one of the halves: `outside` heads, as many heads of the same layers
    that belong to no half, where there are enough; a `removed subspace`, as much of the stream lost at random
    (`Removed`); and a `rotated edit`, as large an edit while nothing is lost (`Displaced`). The last two are drawn five
    times, a row a draw. `mode` is `full` or `pattern-preserving` (`MODES`); pairs, the first n and what is drawn are
    measured in `full` alone.

    `ablations` are all of `ABLATIONS` unless given. Raises `MechdistillError` for a model without heads or with hooks
    attached. Sources: Olsson et al. 2022 (pattern-preserving ablation), Wang et al. 2022 (mean ablation), Chan et al.
    2022 (resample ablation), McGrath et al. 2023 (self-repair).
    """
    if not isinstance(model, Transformer):
        raise MechdistillError("model.kind=bigram: has no heads to ablate; use a transformer run")
    sweep = _Sweep(model, data, circuit, generator)
    knockouts = [
        knockout
        for ablation in (ABLATIONS.values() if ablations is None else ablations)
        for knockout in sweep.knockouts(ablation, ranked)
    ]
    # nothing attends later than the last layer
    last = model.config.n_layers - 1
    keys = [Task(k.damage, k.mode.frozen and k.damage.layers[0] < last) for k in knockouts]
    tasks = [Task(None), *dict.fromkeys(keys)]  # what several rows name is measured once
    intact, *damaged = losses(model, data, tasks)
    loss_of = dict(zip(tasks[1:], damaged, strict=True))
    rows: list[dict[str, Any]] = []
    for knockout, key in zip(knockouts, keys, strict=True):
        values = (loss_of[key] - intact).tolist()
        rows += [e.metric.row(v, bucket=e.bucket, **knockout.columns) for e, v in zip(EFFECTS, values, strict=True)]
    rows += _self_repair(knockouts, rows)
    return frame(ABLATE, [row for row in rows if math.isfinite(row["value"])])


class _Sweep:
    """What is knocked out of one model, and what the damages share."""

    def __init__(self, model: Transformer, data: EvaluationSet, circuit: CopyCircuit, generator: torch.Generator):
        self._model, self._circuit, self._generator = model, circuit, generator
        self._outputs, self._streams = clean_outputs(model, data), clean_streams(model, data)
        layers, heads = range(model.config.n_layers), range(model.config.n_heads)
        self._every = tuple(Head(layer, head) for layer in layers for head in heads)

    def knockouts(self, ablation: Ablation, ranked: HeadSet) -> Iterator[Knockout]:
        instead = replaced(self._outputs, ablation)
        known: dict[HeadSet, KnockedOut] = {}

        def knocked_out(heads: HeadSet) -> KnockedOut:
            return known.setdefault(heads, KnockedOut(self._model, heads, instead))

        def knockout(target: Target, heads: HeadSet, mode: Mode = FULL) -> Knockout:
            columns: dict[str, Any] = {"ablation": ablation.name, "mode": mode.name, "control": False}
            columns |= {"what": target.name}
            columns |= {"layer": heads[0].layer, "head": heads[0].head} if target is targets.HEAD else {}
            columns |= {} if target is targets.HEAD else {"heads": names(heads)}
            return Knockout(knocked_out(heads), mode, columns, heads)

        def control(of: Knockout, half: Target, kind: Target, damage: Damage, heads: HeadSet) -> Knockout:
            named = {"what": targets.control(half, kind), "control": True, "heads": names(heads)}
            return Knockout(damage, of.mode, of.columns | named, ())

        circuit = self._circuit
        halves = [
            (half, heads)
            for half, heads in zip(targets.HALVES, (circuit.lookup, circuit.previous_token), strict=True)
            if heads
        ]
        for mode in MODES:
            for head in self._every:
                yield knockout(targets.HEAD, (head,), mode)
            for half, heads in halves:
                yield (of := knockout(half, heads, mode))
                for others in targets.outside(self._every, heads, circuit, _OUTSIDE_SETS):
                    yield control(of, half, targets.OUTSIDE, knocked_out(others), others)
                if mode is FULL:
                    for kind, damage in self._drawn(knocked_out(heads), ablation):
                        yield control(of, half, kind, damage, heads)
            if circuit.heads:
                yield knockout(targets.CIRCUIT, circuit.heads, mode)
        for pair in targets.pairs(circuit, ranked):
            yield knockout(targets.PAIR, pair)
        for target, heads in targets.tops(ranked):
            yield knockout(target, heads)

    def _drawn(self, knocked_out: KnockedOut, ablation: Ablation) -> Iterator[tuple[Target, Damage]]:
        edits = Edits(knocked_out, self._outputs)
        streams = [Stream(*pair) for pair in zip(self._streams, replaced(self._streams, ablation), strict=True)]
        changes = [moment(stream.instead - stream.clean) for stream in streams]
        for _ in range(_DRAWS):
            yield targets.REMOVED, removed(edits, streams, changes, self._generator)
        for _ in range(_DRAWS):
            yield targets.ROTATED, displaced(edits, self._generator)


def _self_repair(knockouts: Sequence[Knockout], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Joint effect of each set on copy loss minus the sum of its heads' effects, by the same ablation and mode."""
    costs = [row["value"] for row in rows if row["metric"] == COPY_LOSS_DELTA.name]
    alone: dict[tuple[str, str, Head], float] = {}
    for knockout, cost in zip(knockouts, costs, strict=True):
        if knockout.columns["what"] == targets.HEAD.name:
            alone[knockout.columns["ablation"], knockout.mode.name, knockout.heads[0]] = cost
    return [
        SELF_REPAIR.row(
            cost - sum(alone[knockout.columns["ablation"], knockout.mode.name, head] for head in knockout.heads),
            bucket=None,
            **knockout.columns,
        )
        for knockout, cost in zip(knockouts, costs, strict=True)
        if knockout.heads and knockout.columns["what"] != targets.HEAD.name
    ]
