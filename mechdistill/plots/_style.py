"""One plotly template for every figure, and the one way a figure becomes a file."""

import plotly.graph_objects as go

INK = "#2B2F36"  # 13:1 on white
FAINT = "#5F6771"  # 5.7:1: what is beside the point
_GRID, _AXIS = "#E6E8EB", "#9AA1A9"
PANEL = 290  # pixels: height of a panel with its titles
SHADES = (("#0072B2", "#767676"), ("#3A8FC7", "#8C8C8C"), ("#004C78", "#595959"), ("#00616B", "#6B6B6B"))
"""Slots of blue for what is measured, each with the grey of its controls."""

_AXES = {
    "gridcolor": _GRID,
    "zerolinecolor": _AXIS,
    "linecolor": _AXIS,
    "showline": True,
    "ticks": "outside",
    "tickcolor": _AXIS,
    "ticklen": 4,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"color": INK, "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"},
        "title": {"x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"},
        "margin": {"l": 60, "r": 24, "t": 100, "b": 56},
        "hoverlabel": {
            "font": {"family": "ui-monospace, 'DejaVu Sans Mono', monospace", "color": INK},
            "bgcolor": "white",
        },
        "annotationdefaults": {"font": {"color": INK, "size": 13}},
        "xaxis": _AXES,
        "yaxis": _AXES,
    }
)

# of plotly.js: its own page, and what sends a figure there
_CLOUD = ["sendDataToCloud", "editInChartStudio", "sendChartToCloud"]


def styled(figure: go.Figure, title: str, height: int) -> go.Figure:
    """The figure in the house style, its heading above everything else, its panels' titles no wider than they are."""
    return figure.update_layout(
        template=TEMPLATE,
        title={"text": title, "font": {"size": 17}, "pad": {"t": 16, "l": 0}, "automargin": False},
        height=height,
    ).update_annotations(font_size=13)


def to_html(figure: go.Figure) -> str:
    """One page that works offline: plotly.js is inside, nothing is fetched, and nothing offers to send it anywhere."""
    config = {
        "displaylogo": False,
        "responsive": True,
        "showLink": False,
        "showSendToCloud": False,
        "plotlyServerURL": "",
        "modeBarButtonsToRemove": _CLOUD,
    }
    body = figure.to_html(include_plotlyjs=True, full_html=True, auto_play=False, config=config)
    return body.replace("<head>", "<head><style>:root{color-scheme:light}body{margin:0;background:white}</style>", 1)
