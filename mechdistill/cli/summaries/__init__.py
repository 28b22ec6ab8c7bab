"""What the terminal shows of each measure: table in, rich tables out. An entry of `MEASURES` names its own."""

from collections.abc import Iterable

import pandas as pd

from mechdistill.cli._grid import Grid
from mechdistill.cli.summaries._ablation import ablate
from mechdistill.cli.summaries._behaviour import diversity, in_context
from mechdistill.cli.summaries._circuits import circuits
from mechdistill.cli.summaries._heads import induction_scores
from mechdistill.cli.summaries._pass_at_k import pass_at_k
from mechdistill.cli.summaries._plain import plain
from mechdistill.cli.summaries._rows import row_curves
from mechdistill.tables import Measure, resolve


def summary(measure: Measure, data: pd.DataFrame) -> Iterable[Grid]:
    """A measure's own summary, or the plain one."""
    return plain(measure, data) if measure.summary is None else resolve(measure.summary)(data)


__all__ = [
    "ablate",
    "circuits",
    "diversity",
    "in_context",
    "induction_scores",
    "pass_at_k",
    "plain",
    "row_curves",
    "summary",
]
