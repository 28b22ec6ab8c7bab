"""What a user defines in a notebook or a file of their own: decorators that register beside our own entries.

    import mechdistill as md

    @md.attention_score(on="natural")
    def first_token(probe): ...                  # -> sources [batch, query, source]; in tables as `first-token`

It works like a built-in one in tables, figures, YAML and comparisons; on the command line after --plugin FILE.py.
Each of them raises `MechdistillError` for a name that is taken. A definition made in a notebook may be made again, and
what it measures is never cached on disk.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Literal, ParamSpec, TypeVar

from pydantic import ConfigDict, ValidationError, validate_call

from mechdistill import circuits
from mechdistill.circuits import Ablation, Score
from mechdistill.circuits.scores import Decoys, Find, ScoreFunction
from mechdistill.config import DIVERGENCES, SIGNALS, TEACHERS, Traits, problem
from mechdistill.errors import MechdistillError, quoted
from mechdistill.objective import own_divergence, own_signal
from mechdistill.registry import name_of
from mechdistill.tables import MEASURES, METRIC_COLUMNS, Column, Function, Measure, Metric, Need
from mechdistill.tables.metrics import METRICS
from mechdistill.teachers import own_kind

F = TypeVar("F")
D = TypeVar("D", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")


def _checked(make: Callable[P, R]) -> Callable[P, R]:
    """A maker of definitions that names an argument of the wrong kind, in one line."""

    signature = inspect.signature(make)

    @functools.wraps(make)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return strict(**signature.bind(*args, **kwargs).arguments)  # by name, so that errors have it
        except ValidationError as error:
            raise MechdistillError(f"md.{make.__name__}: {problem(error)}") from None

    # what is given back needs no check, and its annotation holds names of other rooms
    make.__annotations__ = {name: kind for name, kind in make.__annotations__.items() if name != "return"}
    strict: Any = validate_call(config=ConfigDict(strict=True, arbitrary_types_allowed=True))(make)
    return checked


@_checked
def attention_score(
    *, on: Literal["repeated", "natural"], decoys: Decoys | None = None, label: str = ""
) -> Callable[[Find], Score]:
    """A head score by where a head looks: a function of a `Probe` that gives the sources of each query.

    `on` repeated blocks, with the same blocks unrepeated as null; or on held-out (natural) sequences. `decoys`, a
    function of probe and sources, gives where an impostor would look: a null, on blocks beside the other. See
    `circuits.attention_score`.
    """
    return lambda find: circuits.SCORES.add(
        circuits.attention_score(on=on, decoys=decoys, label=label)(_function(find))
    )


@_checked
def head_score(
    *, label: str = "", unit: str = "", low: float = 0.0, high: float = 1.0, chance: str = ""
) -> Callable[[ScoreFunction], Score]:
    """A head score: a function of (`HeadView`, `Probes`) that gives a tensor [layer, head], or, for pairs of a head and
    an earlier one, [layer, head, source layer, source head] with nan where there is no pair; [layer], or one number for
    the model. See `circuits.head_score`.
    """
    make = circuits.head_score(label=label, unit=unit, low=low, high=high, chance=chance)
    return lambda function: circuits.SCORES.add(make(_function(function)))


@_checked
def ablation(*, label: str = "", colour: int | None = None) -> Callable[[Callable[..., Any]], Ablation]:
    """A way of knocking heads out: a function of (z [batch, pos, head, d_head], generator) that gives another z.

    `colour` is its slot of the palette, the next free one unless given.
    """

    def register(function: Callable[..., Any]) -> Ablation:
        name = name_of(_function(function))
        taken = {other.colour for other in circuits.ABLATIONS.values() if other.name != name}
        slot = min({*range(len(taken) + 1)} - taken) if colour is None else colour
        return circuits.ABLATIONS.add(
            Ablation(name, label or f"{name} ablation", function, slot, doc=function.__doc__ or "")
        )

    return register


@_checked
def metric(
    name: str,
    label: str = "",
    *,
    unit: str = "",
    low: float = 0.0,
    high: float = math.inf,
    chance: str = "",
    better: Literal["higher", "lower", ""] = "",
) -> Metric:
    """A metric for a measure's rows (`metric.row(value, ...)`); see `tables.Metric`."""
    return METRICS.add(Metric(name, label or name, unit, low, high, chance, better))


@_checked
def measure(
    question: str,
    *,
    columns: Sequence[Column] = (),
    figure: Function | None = None,
    summary: Function | None = None,
    needs: Set[Need] | Sequence[Need] = (),
    checkpoint: Literal["last", "all"] = "last",
    settings: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], Measure]:
    """A measure: a function of a `Subject` that gives a data frame with columns metric, value and the ones named here.

    It becomes `md.<its name>(run)` and, with --plugin, a command of its own, whose help is the question. Its name must
    be no function's of `mechdistill`.
    """

    def register(function: Callable[..., Any]) -> Measure:
        return MEASURES.add(
            Measure(
                name_of(_function(function)),
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


@_checked
def teacher(*, name: str | None = None, traits: Traits | None = None) -> Callable[[D], D]:
    """A kind of teacher: a function or a class, which stays what it is.

    A function of (tokens [batch, pos], labels: `world.Labels`) gives log_probs [batch, pos, vocab], float32, natural
    logarithms, normalised. With a third parameter, `of`, it is made of another teacher, whose log_probs there it gets
    and whose name the entry says as `of`. What comes after a `*` are settings of the entry:

        @md.teacher()
        def sharpened(tokens, labels, of, *, power: float = 2.0):       # {kind: sharpened, of: young, power: 3}
            return (power * of).log_softmax(-1)

    A class derives from `teachers.Teacher`; its settings, parts and checks are a class of `config.TeacherConfig` that
    it has as `entry`. `traits` say what others have to know of it, like `Traits(draws=True)`.
    """

    def register(definition: D) -> D:
        TEACHERS.add(own_kind(definition, name, traits))
        return definition

    return register


@_checked
def divergence(*, name: str | None = None, formula: str = "", needs_support: bool = False) -> Callable[[D], D]:
    """A divergence: a function of (teacher_log_probs, student_log_probs), both [batch, pos, vocab], and, after a `*`,
    settings, that gives a number a position [batch, pos] with a gradient in the student's.

    `formula` is for texts about a run. With `needs_support` a teacher that excludes tokens is refused unless the arm
    sets `divergence.floor`, which mixes it with so much of the uniform law.
    """

    def register(function: D) -> D:
        DIVERGENCES.add(own_divergence(function, name or name_of(_function(function)), formula, needs_support))
        return function

    return register


@_checked
def routing_signal(
    *, name: str | None = None, asks_the_student: bool = False, reads_occurrence: bool = False, is_in_nats: bool = False
) -> Callable[[D], D]:
    """A routing signal: a function of `objective.Seen` that gives a number a position [batch, pos].

    Say so if it reads the student's law, or which positions are copyable (by design, `asks_the_student` and
    `reads_occurrence`): then no floor is claimed that would not hold. Only one in nats can be cut at a threshold.
    """

    def register(function: D) -> D:
        about = {"asks_the_student": asks_the_student, "reads_occurrence": reads_occurrence, "is_in_nats": is_in_nats}
        SIGNALS.add(own_signal(function, name or name_of(_function(function)), **about))
        return function

    return register


def _function(definition: F) -> F:
    if not callable(definition):
        raise MechdistillError(f"definition {quoted(definition)}: must be a function")
    return definition
