"""Differences between twins with their intervals: what an arm did, and how sure we are."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._style import INK, page, styled
from mechdistill.tables import OUTCOMES, metric


def comparison_figure(table: pd.DataFrame) -> go.Figure:
    """A `compare` table as a forest plot: one panel a metric, one line an arm, its 95 % interval over seeds.

    Left of the dashed line an arm is below its baseline. Arms with fewer than three pairs are open and have no
    interval.
    """
    metrics = sorted(dict.fromkeys(table["metric"]), key=lambda name: not (name in OUTCOMES and OUTCOMES[name].primary))
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    known = looks(table.assign(arm=table["arm"].map(_bare)))
    titles = [OUTCOMES[name].title if name in OUTCOMES else metric(name).label for name in metrics]
    made = page(titles, min(3, len(metrics)), 40 + 34 * len(arms), shared_yaxes=True, horizontal_spacing=0.03)
    figure = made.figure
    for name, at in zip(metrics, made.places, strict=True):
        for row in table[table["metric"] == name].to_dict("records"):
            sure = pd.notna(row["low"])
            look = known[_bare(row["arm"])]
            figure.add_scatter(
                x=[row["difference"]],
                y=[row["arm"]],
                error_x={
                    "type": "data",
                    "array": [row["high"] - row["difference"] if sure else 0],
                    "arrayminus": [row["difference"] - row["low"] if sure else 0],
                    "thickness": 1.8,
                    "width": 5,
                },
                marker={"color": look.colour, "size": 10, "symbol": look.symbol if sure else f"{look.symbol}-open"},
                name=row["arm"],
                showlegend=False,
                hovertemplate=_hover(row),
                **at,
            )
        figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1}, **at)
        figure.update_xaxes(nticks=5, **at)
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=arms, range=[-0.5, len(arms) - 0.5])
    baselines = list(dict.fromkeys(table["baseline"]))
    return styled(made, f"Difference{f' from {baselines[0]}' * (len(baselines) == 1)}, twin by twin")


def _bare(arm: Any) -> str:
    """An arm's name without the experiment's path, which stands before it where two experiments are compared."""
    return str(arm).rpartition(":")[2]


def _hover(row: dict[Any, Any]) -> str:
    interval = f"[{row['low']:.4g}, {row['high']:.4g}]" if pd.notna(row["low"]) else str(row["note"])
    return (
        f"{row['arm']} - {row['baseline']}: %{{x:.4g}}<br>{interval}<br>n = {row['n']}, p = {row['p']:.3g}"
        f"<extra></extra>"
    )
