"""A world at a glance: its transition matrix by entropy, how often tokens occur, and what can be copied where."""

from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdistill.plots._style import styled
from mechdistill.tables import metrics, shown
from mechdistill.world import KnownWorld

_MOST_SHOWN = 512  # tokens of the transition matrix
_PLAIN, _TRIGGER = "#0072B2", "#D55E00"


def sandbox_figure(sandbox: KnownWorld, table: pd.DataFrame) -> go.Figure:
    """A `sandbox` table with the world's matrix: rows sorted by entropy, triggers in orange throughout."""
    order = np.argsort(sandbox.row_entropy, kind="stable")
    names = [escape(shown(sandbox.symbols[token])) for token in order]
    is_trigger = sandbox.rate[order] == 1
    figure = make_subplots(
        rows=2,
        cols=2,
        column_widths=[0.5, 0.5],
        subplot_titles=[
            "Transition probabilities, rows by entropy" + f" ({_MOST_SHOWN} tokens)" * (len(order) > _MOST_SHOWN),
            "Row entropy",
            "How often each token occurs",
            "Share of positions that can be copied",
        ],
        horizontal_spacing=0.1,
        vertical_spacing=0.16,
    )
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
                colorbar={"title": "log10 π", "len": 0.42, "y": 0.8, "x": 0.455},
                hovertemplate="%{y} %{x}: %{customdata:.4f}<extra></extra>",
            ),
            row=1,
            col=1,
        )
    figure.update_xaxes(showticklabels=False, title_text="next token", row=1, col=1)
    figure.update_yaxes(showticklabels=False, title_text="current token", autorange="reversed", row=1, col=1)
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
            title_text="tokens by row entropy (orange: triggers)", showticklabels=False, row=row, col=column
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
    return styled(figure, "The world", 820).update_layout(
        bargap=0.15, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.06}
    )
