"""Differences between twins with their intervals: what an arm did, and how sure we are."""

from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdistill.plots._style import INK, arm_colours, styled
from mechdistill.tables import OUTCOMES, metric, p_value


def comparison_figure(table: pd.DataFrame) -> go.Figure:
    """A `compare` table as a forest plot: one panel a metric, one line an arm, its 95 % interval over seeds.

    Left of the dashed line an arm is below its baseline. Arms with fewer than three pairs are open and have no
    interval; where there is no difference at all, words stand in its place. Of formation times, hovering gives the
    threshold, the horizon and the runs that had not formed by it.
    """
    metrics = sorted(dict.fromkeys(table["metric"]), key=lambda name: not (name in OUTCOMES and OUTCOMES[name].primary))
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    colours = arm_colours(arms)
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[OUTCOMES[name].title if name in OUTCOMES else metric(name).label for name in metrics],
        shared_yaxes=True,
        horizontal_spacing=0.04,
        vertical_spacing=0.35 / rows if rows > 1 else 0.0,
    )
    for i, name in enumerate(metrics):
        at: dict[str, Any] = {"row": i // columns + 1, "col": i % columns + 1}
        for row in table[table["metric"] == name].to_dict("records"):
            sure, known = pd.notna(row["low"]), pd.notna(row["difference"])
            figure.add_scatter(
                x=[row["difference"] if known else 0],
                y=[row["arm"]],
                error_x={
                    "type": "data",
                    "array": [row["high"] - row["difference"] if sure else 0],
                    "arrayminus": [row["difference"] - row["low"] if sure else 0],
                    "thickness": 1.6,
                    "width": 5,
                },
                marker={"color": colours[row["arm"]], "size": 9, "symbol": "circle" if sure else "circle-open"},
                mode="markers" if known else "text",
                text=[str(row["note"])],
                textfont={"size": 11},
                name=row["arm"],
                showlegend=False,
                hovertemplate=_hover(row),
                **at,
            )
        figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1}, **at)
    figure.update_yaxes(categoryorder="array", categoryarray=arms)
    figure.update_annotations(font_size=13)
    baselines = " and ".join(dict.fromkeys(table["baseline"]))
    title = (
        f"Difference from {baselines}, twin by twin" if table["baseline"].nunique() == 1 else "Difference, twin by twin"
    )
    return styled(figure, title, 130 + rows * (100 + 30 * len(arms)))


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
