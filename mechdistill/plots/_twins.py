"""Where runs stand on a page that has a panel for each: twins beside each other, in the order of the experiment."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

_COLUMNS = (3, 4, 5)
"""Panels that can stand in a row, the usual first."""


def columns_for(panels: int) -> int:
    """How many stand in a row, so that as few places as can be stay empty: five in one row, seven in rows of four."""
    return panels if panels < _COLUMNS[0] else min(_COLUMNS, key=lambda columns: -panels % columns)


def beside(table: pd.DataFrame) -> tuple[list[str], int]:
    """The run of each panel, row by row, and how many stand in a row; "" where a place stays empty.

    Each seed has its own rows, with all arms in the same places; of a single arm, seeds stand beside each other.
    """
    runs = table.drop_duplicates("run")
    arms, seeds = (list(dict.fromkeys(runs[key])) for key in ("arm", "seed"))
    if len(arms) == 1:
        columns = columns_for(len(runs))
        return list(runs["run"]) + [""] * (-len(runs) % columns), columns
    columns = columns_for(len(arms))
    run_of = dict(zip(zip(runs["arm"], runs["seed"], strict=True), runs["run"], strict=True))
    order: list[str] = []
    for seed in seeds:
        order += [run_of.get((arm, seed), "") for arm in arms] + [""] * (-len(arms) % columns)
    return order, columns


def clear_empty(figure: go.Figure, order: list[str], places: list[dict[str, Any]]) -> None:
    """Take the axes away where no run stands."""
    for run, at in zip(order, places, strict=True):
        if not run:
            figure.update_xaxes(visible=False, **at).update_yaxes(visible=False, **at)
