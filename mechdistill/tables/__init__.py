"""What tables hold, as values that all rooms share: columns, every `Metric`, every `Measure`, every `Outcome`.

One long format, so that tables of any runs can be stacked and queried: a measure returns its own columns, `with_run`
puts the run's in front. Names are imported when first used, so that --help waits neither for pandas nor for metrics.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from mechdistill.tables._frames import arms_of, frame, headline, last_step, pick, with_arms, with_run
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
    from mechdistill.tables.metrics import (
        HEADLINES,
        METRICS,
        OUTCOMES,
        Metric,
        Outcome,
        metric,
        title,
        train_divergence,
    )

_HOMES = {
    "ABLATE": "_measures",
    "BUCKET": "_columns",
    "COMPARISON": "_schemas",
    "FIRST": "_columns",
    "HEAD": "_columns",
    "HEADLINES": "metrics",
    "INDUCTION_SCORES": "_measures",
    "LATER": "_columns",
    "LAYER": "_columns",
    "MEASURES": "_measures",
    "METRIC": "_columns",
    "METRICS": "metrics",
    "METRICS_LOG": "_schemas",
    "METRIC_COLUMNS": "_columns",
    "OCCURRENCE": "_columns",
    "ORDINARY": "_columns",
    "OUTCOMES": "metrics",
    "ROW": "_columns",
    "ROW_CURVES": "_measures",
    "ROW_ENTROPY": "_columns",
    "RUNS": "_schemas",
    "RUN_COLUMNS": "_columns",
    "SECOND": "_columns",
    "THIRD_ON": "_columns",
    "TRAINED": "_schemas",
    "WORLD": "_schemas",
    "Column": "_columns",
    "Function": "_measures",
    "Measure": "_measures",
    "Metric": "metrics",
    "Need": "_measures",
    "Occurrence": "_columns",
    "Outcome": "metrics",
    "Table": "_columns",
    "arms_of": "_frames",
    "frame": "_frames",
    "headline": "_frames",
    "last_step": "_frames",
    "metric": "metrics",
    "pick": "_frames",
    "resolve": "_measures",
    "title": "metrics",
    "train_divergence": "metrics",
    "with_arms": "_frames",
    "with_run": "_frames",
    "metrics": "metrics",
}

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
    "arms_of",
    "frame",
    "headline",
    "last_step",
    "metric",
    "metrics",
    "pick",
    "resolve",
    "title",
    "train_divergence",
    "with_arms",
    "with_run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mechdistill.tables' has no attribute '{name}'")
    home = import_module(f"mechdistill.tables.{_HOMES[name]}")
    return home if name == _HOMES[name] else getattr(home, name)
