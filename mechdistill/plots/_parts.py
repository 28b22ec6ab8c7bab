"""How the parts of a circuit stand along the side of a panel: one line a part, its name in words, first one on top."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from mechdistill.circuits import SCORES
from mechdistill.plots._colours import GRID
from mechdistill.plots._text import broken
from mechdistill.tables import metric

LINE = 18
"""Characters of a line of a name."""
ASIDE = 7 * LINE - 50
"""Pixels that names take beyond the usual margin."""


def in_words(name: str) -> str:
    """The label of a score or a metric."""
    return SCORES[name].label if name in SCORES else metric(name).label


def along(figure: go.Figure, names: Sequence[str], at: dict[str, Any], *, named: bool) -> None:
    """Place the names at 0, 1, 2, ... from the top of a panel, with a line between one and the next."""
    labels = [broken(in_words(name), LINE) for name in names]
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=labels,
        showticklabels=named,
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
        **at,
    )
    for i in range(1, len(names)):
        figure.add_hline(y=i - 0.5, line={"color": GRID, "width": 1}, layer="below", **at)
