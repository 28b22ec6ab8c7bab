"""What a user defines in a notebook or a file of their own: decorators that register beside our own entries.

    import mechdistill as md

    @md.attention_score(on="natural")
    def first_token(probe): ...                  # -> sources [batch, query, source]; in tables as `first-token`

It works like a built-in one in tables, figures, YAML and comparisons; on the command line after --plugin FILE.py.
Each of them raises `MechdistillError` for a name that is taken. A definition made in a notebook may be made again, and
what it measures is never cached on disk.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from mechdistill import circuits
from mechdistill.circuits import Ablation, Score
from mechdistill.circuits.scores import Decoys, Find, ScoreFunction
from mechdistill.tables import MEASURES, METRIC_COLUMNS, Column, Function, Measure, Metric, Need
from mechdistill.tables.metrics import METRICS


def attention_score(
    *, on: Literal["repeated", "natural"], decoys: Decoys | None = None, label: str = ""
) -> Callable[[Find], Score]:
    """A head score by where a head looks: a function of a `Probe` that gives the sources of each query.

    `on` repeated blocks, with the same blocks unrepeated as null; or on held-out (natural) sequences, with `decoys`
    (a function of probe and sources) as null, or none. See `circuits.attention_score`.
    """
    return lambda find: circuits.SCORES.add(circuits.attention_score(on=on, decoys=decoys, label=label)(find))


def head_score(
    *, label: str = "", unit: str = "", low: float = 0.0, high: float = 1.0, chance: str = ""
) -> Callable[[ScoreFunction], Score]:
    """A head score: a function of (`HeadView`, `Probes`) that gives a tensor [layer, head], or, for pairs of a head and
    an earlier one, [layer, head, source layer, source head] with nan where there is no pair. See `circuits.head_score`.
    """
    make = circuits.head_score(label=label, unit=unit, low=low, high=high, chance=chance)
    return lambda function: circuits.SCORES.add(make(function))


def ablation(*, label: str = "", colour: int = 2) -> Callable[[Callable[..., Any]], Ablation]:
    """A way of knocking heads out: a function of (z [batch, pos, head, d_head], generator) that gives another z."""

    def register(function: Callable[..., Any]) -> Ablation:
        name = _name(function)
        return circuits.ABLATIONS.add(
            Ablation(name, label or f"{name} ablation", function, colour, doc=function.__doc__ or "")
        )

    return register


def metric(name: str, label: str = "", **about: Any) -> Metric:
    """A metric for a measure's rows (`metric.row(value, ...)`); `about` are the fields of `tables.Metric`."""
    return METRICS.add(Metric(name, label or name, **about))


def measure(
    question: str,
    *,
    columns: Iterable[Column] = (),
    figure: Function | None = None,
    summary: Function | None = None,
    needs: Iterable[Need] = (),
    checkpoint: Literal["last", "all"] = "last",
    settings: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Measure]:
    """A measure: a function of a `Subject` that gives a data frame with columns metric, value and the ones named here.

    It becomes `md.<its name>(run)` and, with --plugin, a command of its own, whose help is the question.
    """

    def register(function: Callable[..., Any]) -> Measure:
        return MEASURES.add(
            Measure(
                _name(function),
                (*METRIC_COLUMNS, *columns),
                question=question,
                compute=function,
                figure=figure,
                summary=summary,
                needs=frozenset(needs),
                checkpoint=checkpoint,
                settings=dict(settings or {}),
            )
        )

    return register


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__).strip("_").replace("_", "-")
