"""What tables hold, as values that all rooms share: columns, every `Metric`, every `Measure`, every `Outcome`.

One long format, so that tables of any runs can be stacked and queried: a measure returns its own columns, `with_run`
puts the run's in front. What makes data frames is imported when first used, so that --help need not wait for pandas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mechdistill.tables import metrics
from mechdistill.tables._columns import (
    BUCKET,
    FIRST,
    HEAD,
    LATER,
    LAYER,
    METRIC,
    METRIC_COLUMNS,
    OCCURRENCE,
    ORDINARY,
    ROW,
    ROW_ENTROPY,
    RUN_COLUMNS,
    SECOND,
    THIRD_ON,
    Column,
    Occurrence,
    Table,
)
from mechdistill.tables._measures import (
    ABLATE,
    INDUCTION_SCORES,
    MEASURES,
    ROW_CURVES,
    Function,
    Measure,
    Need,
    resolve,
)
from mechdistill.tables._schemas import COMPARISON, METRICS_LOG, RUNS, TRAINED, WORLD
from mechdistill.tables.metrics import HEADLINES, METRICS, OUTCOMES, Metric, Outcome, metric, title, train_divergence

if TYPE_CHECKING:
    from mechdistill.tables._frames import frame, headline, last_step, pick, with_run

_FRAMES = ("frame", "headline", "last_step", "pick", "with_run")

__all__ = [
    "ABLATE",
    "BUCKET",
    "COMPARISON",
    "FIRST",
    "HEAD",
    "HEADLINES",
    "INDUCTION_SCORES",
    "LATER",
    "LAYER",
    "MEASURES",
    "METRIC",
    "METRICS",
    "METRICS_LOG",
    "METRIC_COLUMNS",
    "OCCURRENCE",
    "ORDINARY",
    "OUTCOMES",
    "ROW",
    "ROW_CURVES",
    "ROW_ENTROPY",
    "RUNS",
    "RUN_COLUMNS",
    "SECOND",
    "THIRD_ON",
    "TRAINED",
    "WORLD",
    "Column",
    "Function",
    "Measure",
    "Metric",
    "Need",
    "Occurrence",
    "Outcome",
    "Table",
    "frame",
    "headline",
    "last_step",
    "metric",
    "metrics",
    "pick",
    "resolve",
    "title",
    "train_divergence",
    "with_run",
]


def __getattr__(name: str) -> Any:
    if name not in _FRAMES:
        raise AttributeError(f"module 'mechdistill.tables' has no attribute '{name}'")
    return getattr(import_module("mechdistill.tables._frames"), name)
