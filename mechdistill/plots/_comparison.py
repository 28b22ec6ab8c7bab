"""Differences between twins with their intervals: what an arm did, and how sure we are."""

from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._style import INK, page, styled
from mechdistill.tables import OUTCOMES, metric, p_value


def comparison_figure(table: pd.DataFrame) -> go.Figure:
    """A `compare` table as a forest plot: one panel a metric, one line an arm, its 95 % interval over seeds.

    Left of the dashed line an arm is below its baseline. Arms with fewer than three pairs are open and have no
    interval; where there is no difference at all, words stand in its place. Of formation times, hovering gives the
    threshold, the horizon and the runs that had not formed by it.
    """
    metrics = sorted(dict.fromkeys(table["metric"]), key=lambda name: not (name in OUTCOMES and OUTCOMES[name].primary))
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    every = looks(table.assign(arm=table["arm"].map(_bare)))
    titles = [OUTCOMES[name].title if name in OUTCOMES else metric(name).label for name in metrics]
    made = page(titles, min(3, len(metrics)), 40 + 34 * len(arms), shared_yaxes=True, horizontal_spacing=0.03)
    figure = made.figure
    for name, at in zip(metrics, made.places, strict=True):
        for row in table[table["metric"] == name].to_dict("records"):
            sure, known = pd.notna(row["low"]), pd.notna(row["difference"])
            look = every[_bare(row["arm"])]
            figure.add_scatter(
                x=[row["difference"] if known else 0],
                y=[row["arm"]],
                error_x={
                    "type": "data",
                    "array": [row["high"] - row["difference"] if sure else 0],
                    "arrayminus": [row["difference"] - row["low"] if sure else 0],
                    "thickness": 1.8,
                    "width": 5,
                },
                marker={"color": look.colour, "size": 10, "symbol": look.symbol if sure else f"{look.symbol}-open"},
                mode="markers" if known else "text",
                text=[str(row["note"])],
                textfont={"size": 11},
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
    difference = "%{x:.4g}" if pd.notna(row["difference"]) else "no difference known"
    interval = f"[{row['low']:.4g}, {row['high']:.4g}]" if pd.notna(row["low"]) else str(row["note"])
    lines = [
        f"{row['arm']} - {row['baseline']}: {difference}",
        interval,
        f"n = {row['n']}, p {escape(p_value(row['p']))}",
    ]
    if pd.notna(row["horizon"]):
        lines += [
            f"formed from copy accuracy {row['threshold']:.3f} on, followed up to {row['horizon']} tokens",
            f"not formed by then: {row['censored']} of {row['n']}, of the baseline {row['baseline_censored']}",
        ]
    return "<br>".join(lines) + "<extra></extra>"
