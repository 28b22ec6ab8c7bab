"""A world at a glance: its transition matrix by entropy, how often tokens occur, and what can be copied where."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._style import page, styled
from mechdistill.tables import metrics, shown
from mechdistill.world import KnownWorld

_MOST_SHOWN = 512  # tokens of the transition matrix
_PLAIN, _TRIGGER = "#0072B2", "#D55E00"


def sandbox_figure(sandbox: KnownWorld, table: pd.DataFrame) -> go.Figure:
    """A `sandbox` table with the world's matrix: rows sorted by entropy, triggers in orange throughout."""
    order = np.argsort(sandbox.row_entropy, kind="stable")
    names = [escape(shown(sandbox.symbols[token])) for token in order]
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
                colorscale="Cividis",
                colorbar={
                    "title": {"text": "log₁₀ π", "side": "top"},
                    "lenmode": "pixels",
                    "len": 290,
                    "y": 1,
                    "yanchor": "top",
                    "x": 0.425,
                    "xanchor": "left",
                    "thickness": 14,
                },
                hovertemplate="%{y} %{x}: %{customdata:.4f}<extra></extra>",
            ),
            row=1,
            col=1,
        )
    figure.update_xaxes(showticklabels=False, ticks="", title_text="next token", row=1, col=1)
    figure.update_yaxes(showticklabels=False, ticks="", title_text="current token", autorange="reversed", row=1, col=1)
    colours = [_TRIGGER if trigger else _PLAIN for trigger in is_trigger]
    place = np.arange(len(order))
    for row, column, values, title in (
        (1, 2, sandbox.row_entropy[order], "nats"),
        (2, 1, sandbox.stationary[order], "probability"),
    ):
        figure.add_trace(
            go.Bar(
                x=place,
                y=values,
                customdata=names,
                marker={"color": colours, "line": {"width": 0}},
                hovertemplate="token %{customdata}: %{y:.4f}<extra></extra>",
                showlegend=False,
            ),
            row=row,
            col=column,
        )
        figure.update_xaxes(
            title_text="tokens by row entropy (orange: triggers)", showticklabels=False, ticks="", row=row, col=column
        )
        figure.update_yaxes(title_text=title, row=row, col=column)
    for metric, name, style in (
        (
            metrics.SIMULATED_SHARE,
            "simulated",
            {"mode": "markers", "marker": {"color": _PLAIN, "size": 5, "opacity": 0.6}},
        ),
        (metrics.COPYABLE_SHARE, "computed", {"mode": "lines", "line": {"color": _TRIGGER, "width": 2.5}}),
    ):
        part = table[(table["metric"] == metric.name) & table["position"].notna()]
        figure.add_trace(go.Scatter(x=part["position"], y=part["value"], name=name, **style), row=2, col=2)
    figure.update_xaxes(title_text="position", row=2, col=2)
    figure.update_yaxes(title_text="share", rangemode="tozero", row=2, col=2)
    legend = ["simulated", "computed"]
    return styled(made, "The world: what follows what, and what can be copied", legend=legend).update_layout(
        bargap=0.15
    )
