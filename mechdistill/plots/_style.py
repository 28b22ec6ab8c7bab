"""Colours, fonts and the one way a figure becomes a file.

Okabe and Ito's colour-blind-safe palette; arms keep their colour in every figure. Backgrounds are transparent and
text is a grey that reads on white and on black, so a figure fits a light or a dark page.
"""

import plotly.graph_objects as go

INK = "#76808c"
_GRID = "rgba(128,128,128,0.22)"
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B6CB1", "#A6761D")
_KNOWN = {"spt": 0, "dpt-90": 1, "dpt-50": 4, "spt-2x": 5}
TEACHER_COLOUR = "#8c8c8c"
SHADES = (("#0072B2", "#8c8c8c"), ("#56B4E9", "#b9b9b9"), ("#004C78", "#6b6b6b"), ("#9AD3F5", "#d3d3d3"))
"""Slots of blue for what is measured, each with the grey of its controls."""


def arm_colours(arms: list[str]) -> dict[str, str]:
    """A colour for each arm: fixed for the study's usual ones, the rest of the palette in order of appearance."""
    spare = [colour for i, colour in enumerate(_PALETTE) if i not in (_KNOWN[arm] for arm in arms if arm in _KNOWN)]
    colours: dict[str, str] = {}
    for arm in arms:
        if arm.startswith("teacher:"):
            colours[arm] = TEACHER_COLOUR
        elif arm in _KNOWN:
            colours[arm] = _PALETTE[_KNOWN[arm]]
        else:
            colours[arm] = spare[sum(c in spare for c in colours.values()) % len(spare)]
    return colours


def styled(figure: go.Figure, title: str, height: int) -> go.Figure:
    """The figure in the house style."""
    return (
        figure.update_layout(
            title={"text": title, "x": 0.01, "xanchor": "left", "font": {"size": 17}},
            height=height,
            margin={"l": 70, "r": 30, "t": 90, "b": 60},
            paper_bgcolor="rgba(0,0,0,0)",
            plot_bgcolor="rgba(0,0,0,0)",
            font={"color": INK, "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', sans-serif"},
            hoverlabel={"font": {"family": "ui-monospace, monospace"}},
        )
        .update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID, linecolor=INK)
        .update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID, linecolor=INK)
    )


def to_html(figure: go.Figure) -> str:
    """One page that works offline: plotly.js is inside, nothing is fetched."""
    config = {"displaylogo": False, "responsive": True}
    body = figure.to_html(include_plotlyjs=True, full_html=True, auto_play=False, config=config)
    return body.replace("<head>", "<head><style>:root{color-scheme:light dark}body{margin:0}</style>", 1)
