"""Every metric as a record, so that tables, plots, comparisons and the command line never have to ask what one is.

To add one: a `Metric` here, by its topic, in `METRICS`. Head scores are metrics too; they live with their functions
(`circuits.SCORES`). Losses, KLs and entropies are in nats.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from mechdistill.errors import MechdistillError
from mechdistill.registry import Registry
from mechdistill.tables._columns import FIRST, LATER, ORDINARY, SECOND, THIRD_ON, Occurrence

INF = math.inf


@dataclass(frozen=True)
class Metric:
    """What a number in a table is."""

    name: str
    """As in the column `metric`."""
    label: str
    """In a few words, for axes and titles; the occurrence and the unit are added by `title`."""
    unit: str = ""
    low: float = 0.0
    """Smallest possible value."""
    high: float = INF
    chance: str = ""
    """What a model comes to that knows nothing; empty where that has no meaning."""
    better: Literal["higher", "lower", ""] = ""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise MechdistillError(f"metric '{self.name}': low={self.low} must be below high={self.high}")
        if self.better not in ("higher", "lower", ""):
            raise MechdistillError(f"metric '{self.name}': better={self.better!r} must be higher, lower or empty")

    def row(self, value: float, **where: Any) -> dict[str, Any]:
        """A row of a long table: this metric's value, and the columns that say where."""
        return {"metric": self.name, "value": value, **where}


_NATS, _VOCAB = "nats", "1/vocab"
_UNIFORM = "ln(vocab), uniform guessing"


def _loss(name: str, label: str) -> Metric:
    return Metric(name, label, _NATS, chance=_UNIFORM, better="lower")


def _share(name: str, label: str, chance: str = "", better: Literal["higher", "lower", ""] = "") -> Metric:
    return Metric(name, label, "", 0.0, 1.0, chance, better)


# a model on held-out sequences
LOSS = _loss("loss", "loss")
KL = Metric("kl", "KL to the oracle", _NATS, chance="ln(vocab) - H(row)", better="lower")
SQUARED_ERROR = Metric("squared-error", "squared error", "", 0.0, 2.0, "1/vocab + Σp² - 2/vocab", "lower")
POSITIONS = Metric("positions", "positions", "")
COPY_LOSS = _loss("copy-loss", "copy loss")
COPY_EXCESS = Metric("copy-excess", "copy excess", _NATS, -INF, INF, "ln(vocab) less the oracle's loss", "lower")
COPY_ACCURACY = _share("copy-accuracy", "copy accuracy", _VOCAB, "higher")
NO_MATCHING = _share("no-matching-accuracy", "no-matching accuracy", _VOCAB)
NO_MATCHING_EXACT = _share("no-matching-exact", "1: no-matching is the exact Bayes guess, 0: the best of a few rules")

# the objective, and what routing leaves out
FLOOR = Metric("floor", "objective's floor", _NATS)
LEARNER = Metric("learner", "learner's part of the KL", _NATS, -INF, better="lower")
DISTILLATION_WEIGHT = _share("distillation-weight", "mean weight of distillation")
ROUTED = _share("routed-fraction", "routed fraction")
ROUTING_PRECISION = _share("routing-precision", "routing precision", "share of copyable positions", "higher")
ROUTING_RECALL = _share("routing-recall", "routing recall", "routed fraction", "higher")
LABEL_SMOOTHING = _share("label-smoothing", "label smoothing")

# the teacher, as its targets are
TEACHER_MISSING = _share("teacher-missing-mass", "mass that the teacher excludes", better="lower")
TEACHER_KL = Metric("teacher-kl", "teacher's KL to the oracle", _NATS, chance="ln(vocab) - H(row)", better="lower")
TEACHER_SQUARED_ERROR = Metric("teacher-squared-error", "teacher's squared error", "", 0.0, 2.0, better="lower")
TEACHER_COPY_ACCURACY = _share("teacher-copy-accuracy", "teacher's copy accuracy", _VOCAB, "higher")
TEACHER_COPY_MASS = _share("teacher-copy-mass", "teacher's mass on the target", _VOCAB, "higher")

STOPPED_AT = _share("stopped-at-copy-accuracy", "copy accuracy at which `until` stopped training", _VOCAB, "higher")

# training batches
LEARNING_RATE = Metric("lr", "learning rate")
TRAIN_LOSS = Metric("train-loss", "training objective", _NATS, better="lower")
TRAIN_CROSS_ENTROPY = _loss("train-cross-entropy", "cross-entropy with the label, training batches")
TRAIN_SMOOTHED = _loss("train-smoothed-cross-entropy", "cross-entropy with the smoothed label, training batches")
TRAIN_SOFT = _loss("train-soft-cross-entropy", "cross-entropy with the teacher, training batches")


def train_divergence(kind: str) -> Metric:
    """The distillation term of a divergence on training batches."""
    return Metric(f"train-{kind}", f"{kind} to the teacher, training batches", _NATS, better="lower")


# knocking heads out: differences to the intact model
COPY_LOSS_DELTA = Metric("copy-loss-delta", "Δ copy loss", _NATS, -INF, chance="0, a head that does not matter")
BIGRAM_KL_DELTA = Metric("bigram-kl-delta", "Δ bigram KL", _NATS, -INF, chance="0, a head that does not matter")
SELF_REPAIR = Metric(
    "self-repair", "Δ copy loss of the set - Σ of its heads alone", _NATS, -INF, chance="0, a lone head"
)

# single edges, and the circuit as a set
COPY_GAP = Metric("copy-gap", "logit difference, clean less corrupt", "logits", -INF, chance="0, nothing is copied")
PATH_RECOVERED = Metric(
    "path-recovered", "share of the copy gap that the edge recovers", "", -INF, chance="0, an edge that does not matter"
)
PATH_ATTRIBUTION = Metric("path-attribution", "the same to first order", "", -INF, chance="0")
FAITHFULNESS = Metric(
    "faithfulness", "share of copying that the set does alone", "", -INF, chance="random sets", better="higher"
)
COMPLETENESS = Metric(
    "completeness", "share of copying that is lost without the set", "", -INF, chance="random sets", better="higher"
)
MINIMALITY = Metric("minimality", "faithfulness that is lost without the head", "", -INF, chance="0, not needed")

# a world
STATIONARY = _share("stationary", "how often the token occurs")
TRIGGER_RATE = _share("trigger-rate", "probability of being a trigger in a sequence")
TRIGGER_SHARE = _share("trigger-share", "share of positions that hold a trigger")
COPYABLE_SHARE = _share("copyable-share", "share of positions that can be copied")
SIMULATED_SHARE = _share("simulated-share", "the same, counted on held-out sequences")
ORACLE_LOSS = _loss("oracle-loss", "oracle's loss")
BIGRAM_LOSS = _loss("bigram-loss", "loss of the best table without context")
UNIFORM_LOSS = _loss("uniform-loss", "loss of uniform guessing")
ORACLE_COPY_ACCURACY = _share("oracle-copy-accuracy", "oracle's copy accuracy", _VOCAB)

# problems of which one solution, hidden, is right
PASS_AT_K = _share("pass-at-k", "pass@k", "about k/vocab at one turn, 0 at several", "higher")
PASS_AT_K_OPTIMUM = _share("pass-at-k-optimum", "best possible pass@k")
REGRET = _share("regret", "best possible pass@k less the model's", better="lower")
MAJORITY_VOTE = _share("majority-vote", "accuracy of the commonest sample", "1/vocab at one turn", "higher")
ENUMERATED_MASS = _share("enumerated-mass", "share of the world's law that solutions are drawn from")
# prompts whose answer they show
IN_CONTEXT_ACCURACY = _share("in-context-accuracy", "accuracy of the shown answer", _VOCAB, "higher")
IN_CONTEXT_LOSS = _loss("in-context-loss", "loss of the shown answer")
ROW_WINS = _share("row-wins", "how often the row's likeliest successor is given instead", _VOCAB)
ICL_AGAINST_ORACLE = Metric(
    "icl-against-oracle", "what context is worth, oracle's share", "", -INF, INF, "0, context is not used", "higher"
)

# generated sequences
DISTINCT = _share("distinct-n", "distinct n-grams of all")
VALID_DISTINCT = _share("valid-distinct-n", "distinct valid n-grams of all", better="higher")
VALIDITY = _share("validity", "share of valid transitions", "size of the support/vocab", "higher")
ENTROPY_RATE = Metric("entropy-rate", "entropy rate of what is generated", _NATS, chance="ln(vocab)")
ORACLE_ENTROPY_RATE = Metric("oracle-entropy-rate", "entropy rate of the world", _NATS)
VENDI = Metric("vendi-score", "effective number of different sequences", "", 1.0)
UNIQUE_CORRECT = Metric("unique-correct", "different valid continuations of a prompt", "", better="higher")

# over a whole run
FORMATION = Metric("formation-tokens", "tokens until copying forms", "tokens", better="lower")
TOKENS_TO_HALVE = Metric("tokens-to-halve", "tokens until a row's KL has halved", "tokens", better="lower")
HALVING_SLOPE = Metric("halving-slope", "slope of log tokens to halve on row entropy", "1/nat", -INF, chance="0")

# two models, head by head
PATTERN_SIMILARITY = Metric("pattern-similarity", "similarity of attention", "", -1.0, 1.0, "0 but for position")

METRICS: Registry[Metric] = Registry("metric", [m for m in list(globals().values()) if isinstance(m, Metric)])
"""By name."""


def metric(name: str) -> Metric:
    """The metric of a name in a table; one that nobody has registered is known by its name alone."""
    return METRICS.get(name) or Metric(name, name, low=-INF)


_AT = {
    ORDINARY: "ordinary rows",
    FIRST: "occurrence 1",
    SECOND: "occurrence 2",
    LATER: "occurrence ≥ 2",
    THIRD_ON: "occurrence ≥ 3",
}


def title(metric: Metric, occurrence: Occurrence | None = None) -> str:
    """A metric in words: its label, at which occurrence, and its unit."""
    where = {None: "", ORDINARY: f", {_AT[ORDINARY]}"}.get(occurrence, f" at {_AT.get(occurrence or '', '')}")
    return f"{metric.label}{where}" + f", {metric.unit}" * bool(metric.unit)


@dataclass(frozen=True)
class Outcome:
    """What a run came to: a metric at its last evaluation, over all buckets. To compare by another: `OUTCOMES.add`."""

    name: str
    """As in the column `metric` of a comparison."""
    metric: Metric
    occurrence: Occurrence | None = None
    primary: bool = False
    """Whether p is adjusted for it (Holm, over the primaries and the arms)."""
    digits: int = 4
    """Shown in tables."""
    suffix: str = ""
    """Said after the name over a column for the terminal: an occurrence, a unit."""

    @property
    def title(self) -> str:
        """In words."""
        return title(self.metric, self.occurrence)

    @property
    def heading(self) -> str:
        """Over a column for the terminal."""
        return self.name + self.suffix


OUTCOMES: Registry[Outcome] = Registry(
    "outcome",
    (
        Outcome("loss", LOSS),
        Outcome("kl", KL, ORDINARY, primary=True),
        Outcome("copy-excess", COPY_EXCESS, LATER, primary=True),
        Outcome("copy-accuracy", COPY_ACCURACY, LATER),
        Outcome("first-occurrence-excess", COPY_EXCESS, FIRST),
        Outcome("formation-tokens", FORMATION, primary=True, digits=0),
    ),
)
"""What `compare` compares. The last is of the whole run, the others are at its last evaluation."""

HEADLINES = (
    Outcome("copy-accuracy", COPY_ACCURACY, LATER, digits=3, suffix=" ≥2"),
    Outcome("no-matching-accuracy", NO_MATCHING, LATER, digits=3, suffix=" ≥2"),
    Outcome("copy-excess", COPY_EXCESS, LATER, digits=3, suffix=", nats"),
    Outcome("bigram-kl", KL, ORDINARY, suffix=", nats"),
)
"""What `train`, `runs show` and model cards say of a run; columns of the `train` table."""
