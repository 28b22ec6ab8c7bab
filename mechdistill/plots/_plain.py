"""Any measure as a figure, where it has none of its own: a panel for each metric, a line or bars for each run."""

from collections.abc import Hashable
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._style import page, styled
from mechdistill.tables import METRIC_COLUMNS, Measure, metric


def plain_figure(measure: Measure, table: pd.DataFrame) -> go.Figure:
    """A measure's table as bars by place, or, over several checkpoints, as curves against tokens.

    Each panel is a metric with its unit; a place is what the measure's own text and integer columns say. Curves are
    means over places.
    """
    keys = [c.name for c in measure.columns if c not in METRIC_COLUMNS and c.dtype != "float64"]
    keys = [key for key in keys if table[key].notna().any()]
    names = list(dict.fromkeys(table["metric"]))
    arms = looks(table)
    moving = bool((table.groupby("run")["step"].nunique() > 1).any())
    made = page([metric(name).label for name in names], min(2, len(names)), 290)
    figure = made.figure
    for name, at in zip(names, made.places, strict=True):
        for run, part in table[table["metric"] == name].groupby("run", sort=False):
            look = arms[part["arm"].iloc[0]]
            about: dict[str, Any] = {"name": str(run), "legendgroup": str(run), "showlegend": at == made.places[0]}
            if moving:
                curve = part.groupby("tokens", as_index=False)["value"].mean()
                line = {"color": look.colour, "dash": look.dash}
                points = {"mode": "lines+markers", "line": line, "marker": {"symbol": look.symbol, "size": 7}}
                figure.add_trace(go.Scatter(x=curve["tokens"], y=curve["value"], **points, **about), **at)
            else:
                places = [_place(row, keys) for row in part.to_dict("records")]
                figure.add_trace(go.Bar(x=places, y=part["value"], marker={"color": look.colour}, **about), **at)
        known = metric(name)
        figure.update_yaxes(title_text=known.unit or known.label, **at)
        figure.update_xaxes(title_text="tokens" if moving else "", **at)
    return styled(made, measure.question, legend=list(dict.fromkeys(table["run"])))


def _place(row: dict[Hashable, Any], keys: list[str]) -> str:
    given = [f"{key} {row[key]}" for key in keys if not pd.isna(row[key])]
    return ", ".join(given) or str(row["run"])
