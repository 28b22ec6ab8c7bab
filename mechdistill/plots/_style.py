"""One plotly template for every figure, and how heading, reading line, legend and panels share a page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdistill.plots._colours import ARMS, AXIS, FAINT, GRID, INK, PAPER
from mechdistill.plots._text import broken, finished

_AXES = {
    "gridcolor": GRID,
    "zeroline": False,
    "zerolinecolor": AXIS,
    "linecolor": AXIS,
    "showline": True,
    "ticks": "outside",
    "tickcolor": AXIS,
    "ticklen": 4,
    "tickfont": {"size": 12},
    "automargin": True,
    "title": {"standoff": 6, "font": {"size": 12}},
}
_AT_THE_LEFT = {"xref": "container", "xanchor": "left", "yref": "container", "yanchor": "top"}

TEMPLATE = go.layout.Template(
    layout={
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "colorway": list(ARMS),
        "font": {"color": INK, "size": 13, "family": "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"},
        "title": {
            "x": 0,
            **_AT_THE_LEFT,
            "pad": {"l": 16},
            "font": {"size": 17},
            "subtitle": {"font": {"size": 13, "color": FAINT}},
        },
        "hoverlabel": {
            "font": {"family": "ui-monospace, 'DejaVu Sans Mono', monospace", "color": INK},
            "bgcolor": PAPER,
            "bordercolor": AXIS,
            "align": "left",
        },
        "legend": {"orientation": "h", "x": 0.012, **_AT_THE_LEFT, "itemwidth": 44},
        "xaxis": _AXES,
        "yaxis": _AXES,
    }
)

# pixels
_TOP, _HEADING, _READING, _LEGEND, _TITLE = 30, 22, 18, 22, 18
_BOTTOM, _GAP = 64, 78
_NARROWEST = 740  # what figures are laid out for, and the characters that then surely fit into a panel's title
_FITS = {1: 90, 2: 44, 3: 27, 4: 19, 5: 15}
_LEGEND_GAP = 8  # pixels between lines of a legend
_LEGEND_FITS = _NARROWEST - 84  # what margins leave
_LETTER, _MARGIN = 7, 50  # pixels: a letter beside a panel, and the room that is there for names
_HEADING_FITS, _READING_FITS = 84, 104  # characters


@dataclass(frozen=True)
class Page:
    """A figure of equal panels, row by row, and what has to be known to lay it out."""

    figure: go.Figure
    places: list[dict[str, Any]]  # row and col of each panel, as plotly's keywords
    plots: int  # pixels: height of all panels with what lies between them
    title_lines: int
    fits: int  # characters that surely fit into a panel's width


def page(titles: Sequence[str], columns: int, panel: int, *, aside: int = 0, **options: Any) -> Page:
    """Panels of `panel` pixels; their titles are broken into lines that fit where the page is narrow.

    `aside` is how many pixels of the width long names beside the panels take beyond the usual margin. The last panel is
    as wide as the room that is left in its row.
    """
    fits = max(8, _FITS[columns] * (_NARROWEST - aside) // _NARROWEST)
    lines_of = [broken(title, fits) for title in titles]
    lines = max(title.count("\n") + 1 if title else 0 for title in lines_of)
    rows = -(-len(titles) // columns)
    gap = _GAP + _TITLE * lines
    plots = rows * panel + (rows - 1) * gap
    between = gap / plots if rows > 1 else 0.0
    spare = rows * columns - len(titles)
    specs: list[list[dict[str, Any] | None]] = [[{} for _ in range(columns)] for _ in range(rows)]
    specs[-1][columns - spare - 1 :] = [{"colspan": spare + 1}, *[None] * spare]
    figure = make_subplots(
        rows=rows, cols=columns, specs=specs, subplot_titles=lines_of, vertical_spacing=between, **options
    )
    figure.update_annotations(font={"size": 13, "color": INK})
    places = [{"row": i // columns + 1, "col": i % columns + 1} for i in range(len(titles))]
    return Page(figure, places, plots, lines, fits)


def aside_of(labels: Iterable[str]) -> int:
    """How much of the width names beside the panels take beyond the usual margin, as `page` asks for it; pixels."""
    longest = max((len(line) for label in labels for line in label.split("\n")), default=0)
    return max(0, _LETTER * longest - _MARGIN)


def styled(
    made: Page, heading: str, how_to_read: str, *, legend: Sequence[str] = (), above: int = 0, below: int = 0
) -> go.Figure:
    """The page in the house style: heading, how to read it, legend and panels one below the other at any width.

    `legend` is what stands in it; `above` and `below` are pixels for what else stands between legend and panels, and
    under them. All text of the figure is escaped here: write to it before.
    """
    heading, how_to_read = broken(heading, _HEADING_FITS), broken(how_to_read, _READING_FITS)
    more = heading.count("\n")
    top = _TOP + _HEADING * (more + 1) + _READING * (how_to_read.count("\n") + 1)
    lines = _legend_lines(legend)
    room = top + _LEGEND * lines + _LEGEND_GAP * max(0, lines - 1) + 14 + above + _TITLE * made.title_lines + 8
    height = room + made.plots + _BOTTOM + below
    made.figure.update_layout(
        template=TEMPLATE,
        title={"text": heading, "subtitle": {"text": how_to_read}, "y": 1 - (16 + 12 * more) / height},
        height=height,
        margin={"l": 64, "r": 20, "t": room, "b": _BOTTOM + below},
        legend={"y": 1 - top / height},
    )
    return finished(made.figure)


def _legend_lines(names: Sequence[str]) -> int:
    """How many lines a legend takes: entries in groups of their own stand behind each other, as many as fit."""
    widths = [7 * len(name) + 60 for name in names]
    lines, used = 0, _LEGEND_FITS
    for width in widths:
        if used + width > _LEGEND_FITS:
            lines, used = lines + 1, 0
        used += width
    return lines
