"""A world at a glance: its transition matrix by entropy, how often tokens occur, and what can be copied where."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import hatched
from mechdistill.plots._cells import colour_bar
from mechdistill.plots._colours import BLUE, ORANGE, RISING
from mechdistill.plots._style import page, styled
from mechdistill.tables import metrics, shown
from mechdistill.world import KnownWorld

_MOST_SHOWN = 512  # tokens of the transition matrix
_PLAIN, _TRIGGER = BLUE, ORANGE
_STRIPES = hatched("-", 5)
"""Across a bar, so that they are seen however thin it is."""


def sandbox_figure(sandbox: KnownWorld, table: pd.DataFrame) -> go.Figure:
    """A `sandbox` table with the world's matrix: rows sorted by entropy, triggers in orange throughout, and striped."""
    order = np.argsort(sandbox.row_entropy, kind="stable")
    names = [shown(sandbox.symbols[token]) for token in order]
    is_trigger = sandbox.rate[order] == 1
    some = f" ({_MOST_SHOWN} tokens)" * (len(order) > _MOST_SHOWN)
    titles = [f"Transition probabilities, rows by entropy{some}", "Row entropy", "How often each token occurs"]
    made = page([*titles, "Share of positions that can be copied"], 2, 290, horizontal_spacing=0.17)
    figure = made.figure
    # every row of a large world would be more cells than a browser draws
    drawn = np.linspace(0, len(order) - 1, min(len(order), _MOST_SHOWN)).round().astype(int)
    probabilities = sandbox.pi[np.ix_(order[drawn], order[drawn])]
    with np.errstate(divide="ignore"):
        figure.add_trace(
            go.Heatmap(
                z=np.log10(np.maximum(probabilities, 1e-4)),
                customdata=probabilities,
                x=[f"to {names[i]}" for i in drawn],
                y=[f"from {names[i]}" for i in drawn],
                colorscale=RISING,
                colorbar={**colour_bar("log₁₀ π", 290), "x": 0.425, "xanchor": "left"},
                hovertemplate="%{y} %{x}: %{customdata:.4f}",
            ),
            row=1,
            col=1,
        )
    figure.update_xaxes(showticklabels=False, ticks="", title_text="next token", row=1, col=1)
    figure.update_yaxes(showticklabels=False, ticks="", title_text="current token", autorange="reversed", row=1, col=1)
    place = np.arange(len(order))
    for row, column, values, title in (
        (1, 2, sandbox.row_entropy[order], "nats"),
        (2, 1, sandbox.stationary[order], "probability"),
    ):
        for which, marker in ((~is_trigger, {"color": _PLAIN}), (is_trigger, {"color": _TRIGGER, "pattern": _STRIPES})):
            figure.add_trace(
                go.Bar(
                    x=place[which],
                    y=values[which],
                    width=0.85,
                    customdata=[names[i] for i in place[which]],
                    marker={**marker, "line": {"width": 0}},
                    hovertemplate="token %{customdata}: %{y:.4f}",
                    showlegend=False,
                ),
                row=row,
                col=column,
            )
        figure.update_xaxes(
            title_text="tokens by row entropy (striped: triggers)", showticklabels=False, ticks="", row=row, col=column
        )
        figure.update_yaxes(title_text=title, row=row, col=column)
    for metric, name, style in (
        (
            metrics.SIMULATED_SHARE,
            "share to copy, counted",
            {"mode": "markers", "marker": {"color": _PLAIN, "size": 5, "opacity": 0.6}},
        ),
        (
            metrics.COPYABLE_SHARE,
            "share to copy, computed",
            {"mode": "lines", "line": {"color": _TRIGGER, "width": 2.5}},
        ),
    ):
        part = table[(table["metric"] == metric.name) & table["position"].notna()]
        figure.add_trace(go.Scatter(x=part["position"], y=part["value"], name=name, **style), row=2, col=2)
    figure.update_xaxes(title_text="position in its sequence", row=2, col=2)
    figure.update_yaxes(title_text="share of sequences", rangemode="tozero", row=2, col=2)
    legend = ["share to copy, counted", "share to copy, computed"]
    figure.update_layout(barmode="overlay")
    return styled(
        made,
        "The world: what follows what, and what can be copied",
        "A row of low entropy is nearly certain of its next token. What follows a trigger (orange, striped) is "
        "drawn anew for each sequence: from its second occurrence on it can be copied, and only so be known.",
        legend=legend,
    )
