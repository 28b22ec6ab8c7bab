"""One plotly template for every figure, how panels share a page, and the one way a figure becomes a file."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

INK = "#2B2F36"  # 13:1 on white
FAINT = "#5F6771"  # 5.7:1
_GRID, _AXIS = "#E6E8EB", "#8A929B"
SHADES = (("#0072B2", "#767676"), ("#3A8FC7", "#949494"), ("#003F66", "#595959"), ("#00616B", "#868686"))
"""Slots of blue for what is measured, each with the grey of its controls."""

_AXES = {
    "gridcolor": _GRID,
    "zeroline": False,
    "zerolinecolor": _AXIS,
    "linecolor": _AXIS,
    "showline": True,
    "ticks": "outside",
    "tickcolor": _AXIS,
    "ticklen": 4,
    "tickfont": {"size": 12},
    "automargin": True,
    "title": {"standoff": 6, "font": {"size": 12}},
}

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"color": INK, "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"},
        "title": {
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "yref": "container",
            "yanchor": "top",
            "pad": {"l": 16},
            "font": {"size": 17},
        },
        "hoverlabel": {
            "font": {"family": "ui-monospace, 'DejaVu Sans Mono', monospace", "color": INK},
            "bgcolor": "white",
        },
        "legend": {
            "orientation": "h",
            "x": 0.012,
            "xref": "container",
            "xanchor": "left",
            "yref": "container",
            "yanchor": "top",
            "itemwidth": 40,
        },
        "xaxis": _AXES,
        "yaxis": _AXES,
    }
)

# pixels
_HEADING, _LINE, _BOTTOM, _GAP = 58, 18, 64, 78
_NARROWEST = 720  # what figures are laid out for, and the characters that then surely fit into a panel's title
_FITS = {1: 90, 2: 44, 3: 27}
_PAGE = 88  # characters of a heading's line


@dataclass(frozen=True)
class Page:
    """A figure of equal panels, row by row, and what has to be known to lay it out."""

    figure: go.Figure
    places: list[dict[str, Any]]  # row and col of each panel, as plotly's keywords
    plots: int  # pixels: height of all panels with what lies between them
    title_lines: int


def page(titles: Sequence[str], columns: int, panel: int, **options: Any) -> Page:
    """Panels of `panel` pixels; their titles are broken into lines that fit where the page is narrow."""
    broken = [_broken(title, _FITS.get(columns, 16)) for title in titles]
    lines = max(title.count("<br>") + 1 for title in broken)
    rows = -(-len(titles) // columns)
    gap = _GAP + _LINE * lines
    plots = rows * panel + (rows - 1) * gap
    between = gap / plots if rows > 1 else 0.0
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=broken, vertical_spacing=between, **options)
    places = [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(titles))]
    return Page(figure, places, plots, lines)


def styled(made: Page, heading: str, *, legend: Sequence[str] = (), above: int = 0, below: int = 0) -> go.Figure:
    """The page in the house style: heading, legend and panels one below the other however narrow it is.

    `legend` is what stands in it; `above` and `below` are pixels for what else stands between legend and panels, and
    under them.
    """
    heading = _broken(heading, _PAGE)
    top = _HEADING + 22 * heading.count("<br>")
    in_a_line = max(1, _NARROWEST // (8 * max((len(name) for name in legend), default=1) + 60))
    room = top + 22 * -(-len(legend) // in_a_line) + 8 + above + _LINE * made.title_lines + 8
    height = room + made.plots + _BOTTOM + below
    return made.figure.update_layout(
        template=TEMPLATE,
        title={"text": heading, "y": 1 - (16 + 12 * heading.count("<br>")) / height},
        height=height,
        margin={"l": 64, "r": 20, "t": room, "b": _BOTTOM + below},
        legend={"y": 1 - top / height},
    ).update_annotations(font={"size": 13, "color": INK})


def _broken(text: str, width: int) -> str:
    joined = text.replace("≥ ", "≥\u00a0")  # a number stays beside its sign
    return "<br>".join(textwrap.wrap(joined, width)) or text


def to_html(figure: go.Figure) -> str:
    """One page that works offline: plotly.js is inside, nothing is fetched, and nothing offers to send it anywhere."""
    config = {"displaylogo": False, "responsive": True, "showSendToCloud": False}
    body = figure.to_html(include_plotlyjs=True, full_html=True, auto_play=False, config=config)
    return body.replace("<head>", "<head><style>:root{color-scheme:light}body{margin:0;background:white}</style>", 1)
