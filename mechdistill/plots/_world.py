"""A world at a glance: its transition matrix by entropy, how often tokens occur, and what can be copied where."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._style import page, styled
from mechdistill.tables import metrics
from mechdistill.world import KnownWorld

_PLAIN, _TRIGGER = "#0072B2", "#D55E00"


def sandbox_figure(sandbox: KnownWorld, table: pd.DataFrame) -> go.Figure:
    """A `sandbox` table with the world's matrix: rows sorted by entropy, triggers in orange throughout."""
    order = np.argsort(sandbox.row_entropy, kind="stable")
    names = [
        sandbox.symbols[token] if sandbox.symbols[token].strip() else repr(sandbox.symbols[token]) for token in order
    ]
    is_trigger = sandbox.rate[order] == 1
    titles = ["Transition probabilities, rows by entropy", "Row entropy", "Stationary law"]
    made = page([*titles, "Share of positions that can be copied"], 2, 290, horizontal_spacing=0.17)
    figure = made.figure
    probabilities = sandbox.pi[order][:, order]
    with np.errstate(divide="ignore"):
        figure.add_trace(
            go.Heatmap(
                z=np.log10(np.maximum(probabilities, 1e-4)),
                customdata=probabilities,
                x=[f"to {name}" for name in names],
                y=[f"from {name}" for name in names],
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
