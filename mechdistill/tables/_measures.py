"""Every measure as a record: `analysis` computes it, the command line makes a command of it, `plots` draws it.

To add one: a function of a `Subject` (in `evals` or `circuits`) that gives a table, an entry here, and, unless the
plain ones will do, a figure (`plots`) and a summary for the terminal (`cli/summaries`). The entry names them as
'module:function', so that nothing heavy is imported before it is used and no room imports one above it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, get_args

from mechdistill.errors import MechdistillError
from mechdistill.registry import Registry
from mechdistill.tables._columns import (
    BUCKET,
    DTYPES,
    HEAD,
    LAYER,
    METRIC_COLUMNS,
    OCCURRENCE,
    ROW,
    ROW_ENTROPY,
    RUN_COLUMNS,
    TASK,
    TEMPERATURE,
    Column,
    Table,
)

Need = Literal["heads", "triggers", "oracle"]
"""heads: a transformer; triggers: a world where something can be copied; oracle: a world that knows its own law."""

NEEDS: tuple[Need, ...] = get_args(Need)

_COMMANDS = {
    "train",
    "compare",
    "match",
    "dynamics",
    "sandbox",
    "publish",
    "presets",
    "runs",
    "metrics",
    "report",
    "claims",
    "checks",
}
_FUNCTIONS = {
    "checks",
    "difference-in-differences",
    "compare-dynamics",
    "early-warning",
    "explore",
    "learning-speed",
    "load",
    "load-experiment",
    "match-heads",
    "predicted-risk",
    "prompt",
    "sql",
    "plugin",
    "tabular-null",
    "to-transformer-lens",
    "to-transformers",
    "token-matrices",
    "variance-shares",
    "from-transformer-lens",
}
_SCORES = {"attention-score", "head-score", "ablation", "measure", "metric"}
_KINDS = {"teacher", "divergence", "routing-signal"}
RESERVED = frozenset(_COMMANDS | _FUNCTIONS | _SCORES | _KINDS)
"""Names that no measure can have: of our commands, of views of `runs sql`, and of the functions of `mechdistill`."""

Function = str | Callable[..., Any]
"""A function, or where it is: 'module:function'."""


@dataclass(frozen=True, eq=False, repr=False)
class Measure(Table):
    """What can be asked of a checkpoint. `name` is also the command's and the table's."""

    question: str
    """What it answers, in one sentence: the help of its command."""
    compute: Function
    """Subject -> table with these columns; a pure function, whose result is cached beside the weights."""
    finish: Function | None = None
    """(table, subject) -> table: what is added from other tables whenever it is read, and so not cached."""
    foreign: Function | None = None
    """A model that is no run of ours (a bridge, or a folder's `Path`) -> table; None: only runs can be measured."""
    figure: Function | None = None
    """Table -> plotly Figure; None: `plots.plain_figure`."""
    summary: Function | None = None
    """Table -> what the terminal shows; None: a plain table."""
    needs: frozenset[Need] = frozenset()
    checkpoint: Literal["last", "all"] = "last"
    """Measured unless another is asked for."""
    python_name: str = ""
    """Of its function in `mechdistill`, where a package has the measure's own name."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What its numbers depend on besides run, checkpoint and source: part of the cache key."""

    def __post_init__(self) -> None:
        """Raises `MechdistillError` for what cannot be a measure's."""
        odd = [column for column in self.columns if getattr(column, "dtype", None) not in DTYPES]
        names = [getattr(column, "name", "") for column in self.columns]
        taken = {*(column.name for column in RUN_COLUMNS)}
        rules = {
            f"columns: {odd[:1]} must be a Column of {', '.join(DTYPES)}": not odd,
            "columns: must begin with metric and value": names[:2] == [c.name for c in METRIC_COLUMNS],
            "columns: must not repeat a name, nor take a run's": len({*names, *taken}) == len(names) + len(taken),
            "question: must say what it answers": bool(self.question.strip()),
            f"checkpoint={self.checkpoint!r}: must be last or all": self.checkpoint in ("last", "all"),
            f"needs={sorted(self.needs)}: must be of {', '.join(NEEDS)}": self.needs <= set(NEEDS),
            "name: is another command's or view's; choose another": self.name not in RESERVED,
        }
        for rule, kept in rules.items():
            if not kept:
                raise MechdistillError(f"measure '{self.name}': {rule}")

    @property
    def function_name(self) -> str:
        """What its function is called: `mechdistill.<function_name>(run)`."""
        return self.python_name or self.name.replace("-", "_")

    @property
    def all_columns(self) -> list[str]:
        """Names of its table's columns, the run's in front."""
        return [column.name for column in (*RUN_COLUMNS, *self.columns)]


def resolve(function: Function) -> Callable[..., Any]:
    """The function that a record names."""
    if not isinstance(function, str):
        return function
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)


INDUCTION_SCORES = Measure(
    "induction-scores",
    (
        *METRIC_COLUMNS,
        LAYER,
        HEAD,
        Column("source_layer", "Int64", "layer of the earlier head of a pair; null: a score of one head"),
        Column("source_head", "Int64", "the earlier head of a pair"),
        Column(
            "chance",
            "float64",
            "what knows nothing comes to: uniform causal attention, random matrices, uniform guessing",
        ),
        Column("null_mean", "float64", "the same queries at sources the score does not name, mean over sequences"),
        Column("null_sd", "float64", "its standard deviation over sequences"),
        Column("null_max", "float64", "largest null_mean over the model's heads"),
        Column("p", "float64", "of a score no more than .1 beyond its null, over sequences, times the number of heads"),
        Column("untrained", "float64", "the same head's score in the run's own step-0 checkpoint"),
    ),
    question="Score every attention head: is it an induction head, a previous-token head, a copier from triggers?",
    compute="mechdistill.circuits:measure_scores",
    finish="mechdistill.circuits:with_untrained_twin",
    foreign="mechdistill.circuits:measure_foreign",
    figure="mechdistill.plots:induction_scores_figure",
    summary="mechdistill.cli.summaries:induction_scores",
    needs=frozenset({"heads"}),
)

ROW_CURVES = Measure(
    "row-curves",
    (*METRIC_COLUMNS, ROW, ROW_ENTROPY, BUCKET, OCCURRENCE),
    question="How each row of the transition matrix is learned, as a function of its entropy.",
    compute="mechdistill.evals:measure_row_curves",
    finish="mechdistill.evals:with_floor",
    figure="mechdistill.plots:row_curves_figure",
    summary="mechdistill.cli.summaries:row_curves",
    needs=frozenset({"oracle"}),
    checkpoint="all",
)

ABLATE = Measure(
    "ablate",
    (
        *METRIC_COLUMNS,
        LAYER,
        HEAD,
        Column("what", "string", "head; pair, top-n, lookup, previous-token or circuit for a set; or a set's control"),
        Column("heads", "string", "the heads of a set, like 'L1H0 L1H3'; null for a single head"),
        Column("ablation", "string", "name of the `Ablation`: mean, zero, resample, ..."),
        Column("mode", "string", "full; or pattern-preserving: all heads attend as in the intact model"),
        Column(
            "control",
            "boolean",
            "true for what a set is held against: outside heads, removed subspaces, rotated edits",
        ),
        BUCKET,
    ),
    question="Knock out each head, pairs, and the copy circuit as a set: what does copying lose?",
    compute="mechdistill.circuits:measure_ablation",
    figure="mechdistill.plots:ablation_figure",
    summary="mechdistill.cli.summaries:ablate",
    needs=frozenset({"heads", "oracle"}),
)

CIRCUITS = Measure(
    "circuits",
    (
        *METRIC_COLUMNS,
        Column("layer", "Int64", "of an edge, the reader's layer; of a head of the circuit, its own; else null"),
        Column("head", "Int64", "likewise; of keys and values of grouped heads, the group's first"),
        Column("source_layer", "Int64", "of an edge: layer of what has written; null: the embedding"),
        Column("source_head", "Int64", "its head; null: the embedding or an MLP"),
        Column("source", "string", "that in words, like L0H2, MLP0 or embed"),
        Column("reader", "string", "what reads, like L1H1, MLP1 or logits"),
        Column("input", "string", "what it reads with: q, k, v, mlp or logits"),
        Column("null", "float64", "of an edge: recovered with what the source wrote in another pair"),
        Column("composition", "float64", "of an edge between heads: their Q-, K- or V-composition"),
        Column("chance", "float64", "of random matrices' composition"),
        Column("heads", "string", "the heads of a set"),
        Column("control", "boolean", "true for a random set of as many heads"),
        Column("p", "float64", "of no gap (t test over pairs); of a set: share of random sets that do as well"),
    ),
    question="Which head reads what of which, and is the copy circuit all there is? Path patching, set against set.",
    compute="mechdistill.circuits:measure_circuits",
    figure="mechdistill.plots:circuits_figure",
    summary="mechdistill.cli.summaries:circuits",
    needs=frozenset({"heads", "triggers", "oracle"}),
    python_name="wiring",
)

IN_CONTEXT = Measure(
    "in-context",
    (
        *METRIC_COLUMNS,
        TASK,
        Column("distance", "Int64", "positions from the key in its pair to the key at the end; null: any"),
        Column("quarter", "Int64", "of the sequence, in which the pair stands, 0 first; null: any"),
        Column("prompts", "Int64", "how many the value is a mean over; null: of no task"),
        Column("error", "float64", "its standard error over them"),
        Column("ceiling", "float64", "the same of the oracle on the same prompts"),
        Column("no_context", "float64", "the same of the best table without context: what knows the rows alone"),
        Column("no_matching", "float64", "of accuracy: who knows triggers and matches none; null: sequences draw them"),
    ),
    question="Does the model use what its prompt shows: copy from any distance, find a needle, believe it over a row?",
    compute="mechdistill.evals:measure_in_context",
    figure="mechdistill.plots:in_context_figure",
    summary="mechdistill.cli.summaries:in_context",
    needs=frozenset({"triggers", "oracle"}),
)

PASS_AT_K = Measure(
    "pass-at-k",
    (
        *METRIC_COLUMNS,
        TASK,
        Column("k", "Int64", "samples, of which one has to be right; of a majority vote, those that vote"),
        TEMPERATURE,
        Column("exact", "boolean", "true: by enumeration; false: from samples drawn"),
    ),
    question="How likely is one of k samples right? Exact pass@k, with the best possible, over temperatures.",
    compute="mechdistill.evals:measure_pass_at_k",
    figure="mechdistill.plots:pass_at_k_figure",
    summary="mechdistill.cli.summaries:pass_at_k",
    needs=frozenset({"oracle"}),
)

DIVERSITY = Measure(
    "diversity",
    (
        *METRIC_COLUMNS,
        Column("n", "Int64", "of n-grams, how many tokens one has; null: of no n-grams"),
        Column("k", "Int64", "of continuations, how many are drawn of one prompt; null: of whole sequences"),
        Column("sequences", "Int64", "how many are drawn in all, the same for every model: distinct-n falls with them"),
        TEMPERATURE,
        Column("reference", "float64", "the same of as many sequences of the world itself"),
    ),
    question="How different is what the model generates from one draw to the next, and how much of it is valid?",
    compute="mechdistill.evals:measure_diversity",
    figure="mechdistill.plots:diversity_figure",
    summary="mechdistill.cli.summaries:diversity",
    needs=frozenset({"oracle"}),
)

MEASURES: Registry[Measure] = Registry(
    "measure", (INDUCTION_SCORES, ROW_CURVES, ABLATE, CIRCUITS, IN_CONTEXT, PASS_AT_K, DIVERSITY)
)
"""By name, in the order of the command line."""
