"""What a score is: a metric with a function of (heads of a hooked model, probes) to a value by head, by head pair, by
layer, or of the whole model.

Beside a score stand chance (uniform causal attention through the same function) and a null (the same queries where
the sources mean nothing), so that no score has to be read against a bare threshold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits._probes import Probe, Probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._against import BySequence, Decoys, Find, Null, at, attention_to, control, worst
from mechdistill.errors import MechdistillError
from mechdistill.registry import name_of
from mechdistill.tables import Metric

ByHead = Float[Tensor, "layer head"]
ByPair = Float[Tensor, "layer head source_layer source_head"]
ByLayer = Float[Tensor, " layer"]
OfModel = Float[Tensor, ""]


class Scored(NamedTuple):
    """Values of one score; nan where it is not defined, as for a pair whose source is not the earlier head."""

    value: ByHead | ByPair | ByLayer | OfModel
    chance: float | None = None
    null: BySequence | None = None
    """By sequence or random draw, without sequences that have none. A score by layer has one 'head', the layer."""
    excess: BySequence | None = None
    """The score over the null's own queries, less the null; without it no head is singled out."""


UNDEFINED = Scored(torch.tensor(torch.nan))
"""What a score gives that the model, or the world that the probes come from, leaves without meaning."""

ScoreFunction = Callable[[HeadView, Probes], "Scored | Tensor"]


@dataclass(frozen=True)
class Score(Metric):
    """A metric of every head, of every pair of a head and an earlier one, of every layer, or of the model."""

    function: ScoreFunction = field(kw_only=True)
    doc: str = field(kw_only=True, default="")
    """Formula, range, chance level, null and source."""
    sources: Find | None = field(kw_only=True, default=None)
    """Of an attention score: which sources each query should look at."""

    def of(self, view: HeadView, probes: Probes) -> Scored:
        """Its values. Raises `MechdistillError` for values of another shape."""
        with torch.no_grad():
            result = self.function(view, probes)
        scored = result if isinstance(result, Scored) else Scored(result)
        by_head: tuple[int, ...] = (view.n_layers, view.n_heads)
        is_tensor = isinstance(scored.value, Tensor)  # pyright: ignore[reportUnnecessaryIsInstance]
        shape: Any = tuple(scored.value.shape) if is_tensor else type(scored.value).__name__
        if shape not in [by_head, by_head * 2, by_head[:1], ()]:
            raise MechdistillError(
                f"head score '{self.name}': gave {shape}; must be a tensor [layer, head] = {by_head}, "
                f"[layer, head, source layer, source head] = {by_head * 2}, [layer] = {by_head[:1]}, or a single number"
            )
        return scored


def head_score(
    *, label: str = "", unit: str = "", low: float = 0.0, high: float = 1.0, chance: str = ""
) -> Callable[[ScoreFunction], Score]:
    """Make a score of a function (heads, probes) -> tensor by head or by pair. Named like the function, in hyphens."""

    def make(function: ScoreFunction) -> Score:
        name = name_of(function)
        return Score(name, label or name, unit, low, high, chance, function=function, doc=function.__doc__ or "")

    return make


def attention_score(
    *, on: str, decoys: Decoys | None = None, nulls: Sequence[Null] = (), label: str = ""
) -> Callable[[Find], Score]:
    """Make a score of a function that says which sources each query should look at: the attention paid to them.

    `nulls` are what it is held against (`_against`). Unless given they are, on repeated blocks, the same queries and
    positions on the control; and the attention paid to `decoys`, if there are any. Raises `MechdistillError` for
    another kind of sequences.
    """
    if on not in Probes._fields:
        raise MechdistillError(f"attention score: on={on!r} must be one of {', '.join(Probes._fields)}")
    on_control = () if on == "natural" else (control,)
    held_against = nulls or (*on_control, *((at(decoys),) if decoys is not None else ()))

    def make(find: Find) -> Score:
        def function(view: HeadView, probes: Probes) -> Scored:
            return _attention(view, probes, on, find, held_against)

        name = name_of(find)
        return Score(
            name, label or name, "attention", 0.0, 1.0, "uniform causal attention",
            function=function, doc=find.__doc__ or "", sources=find,
        )  # fmt: skip

    return make


def _attention(view: HeadView, probes: Probes, on: str, find: Find, nulls: Sequence[Null]) -> Scored:
    probe: Probe = getattr(probes, on)
    sources = find(probe)
    length = sources.shape[1]
    uniform = torch.ones(len(sources), 1, length, length).tril() / torch.arange(1, length + 1)[:, None]
    chance = float(attention_to(uniform, sources).nanmean())
    value = torch.stack([attention_to(pattern, sources).nanmean(dim=0) for pattern in view.patterns(probe.tokens)])
    against = worst(nulls, view, probe, probes, sources)
    return Scored(value, chance) if against is None else Scored(value, chance, *against)
