"""A figure as the bytes of a file: a page that works offline and follows the reader's colours, or a picture."""

import json
import logging
import os
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import plotly.graph_objects as go
from plotly.io import to_json
from plotly.offline import get_plotlyjs

from mechdistill.errors import MechdistillError, one_line
from mechdistill.plots._colours import DARK, PAPER

PAGE = ".html"
PICTURES = (".png", ".svg", ".pdf")

DARK_SCRIPT = f"const DARK = {json.dumps(DARK)};\n" + (files("mechdistill.plots") / "dark.js").read_text(
    encoding="utf-8"
)
"""JavaScript: `recoloured(figure, dark)` is the figure's JSON in the colours of a dark page, or of a light one;
`drawnAt(place, figure)` draws it as the reader prefers."""

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><title>%(title)s</title>
<style>body{margin:0;background:%(light)s}@media (prefers-color-scheme:dark){body{background:%(dark)s}}</style>
<script>%(plotly)s</script></head><body><div id="figure"></div>
<script>
%(script)s
drawnAt(document.getElementById("figure"), %(figure)s);
</script></body></html>
"""


def to_html(figure: go.Figure) -> str:
    """One page that works offline: plotly.js is inside, nothing is fetched, and nothing offers to send it anywhere.

    It is light or dark as the reader's system is, and follows when that changes.
    """
    layout: Any = figure.layout
    parts = {
        "title": str(layout.title.text or "").replace("<br>", " "),  # escaped already
        "light": PAPER,
        "dark": DARK[PAPER],
        "plotly": get_plotlyjs(),
        "script": DARK_SCRIPT,
        "figure": _inside_a_script(str(to_json(figure, validate=False))),
    }
    return _PAGE % parts


def _inside_a_script(text: str) -> str:
    """JSON that cannot end the script it stands in."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def to_bytes(figure: go.Figure, suffix: str, width: int) -> bytes:
    """The figure as a file: `suffix` is .html (of any width), .png (two pixels a point), .svg or .pdf.

    `width` is in pixels of the page; the height is the figure's own. Pictures are light, and are drawn by an installed
    Chromium or Chrome, which may reach nothing but this machine's files. Raises `MechdistillError` for another suffix,
    where no browser is, and where it fails.
    """
    if suffix == PAGE:
        return to_html(figure).encode()
    _check_suffix(suffix)
    path = browser()
    import kaleido

    layout: Any = figure.layout
    options = {
        "format": suffix[1:],
        "width": width,
        "height": int(layout.height or 450),
        "scale": 2 if suffix == ".png" else 1,
    }
    # plotly.js is the one that plotly brings; MathJax would be fetched; and no proxy listens at that address, so that
    # nothing else of the browser gets out either
    settings: dict[str, Any] = {"path": path, "mathjax": False, "proxy_server": "127.0.0.1:9"}
    draw: Callable[..., Any] = kaleido.calc_fig_sync
    # it logs messages that it cannot read while the browser closes; what matters is raised
    logging.getLogger("choreographer").setLevel(logging.CRITICAL)
    try:
        made = draw(figure.to_plotly_json(), opts=options, kopts=settings)
    except Exception as error:  # whatever a browser comes to
        reason = error.args[0] if error.args else error
        reason = reason[0] if isinstance(reason, tuple) else reason
        why = one_line(str(reason), 100) or type(error).__name__
        raise MechdistillError(f"{path}: drew no {suffix} ({why}); is it a Chromium or Chrome? write {PAGE}") from error
    return bytes(made)


def _check_suffix(suffix: str) -> None:
    """Raise `MechdistillError` for a kind of file that figures are not written as."""
    if suffix not in (PAGE, *PICTURES):
        raise MechdistillError(f"'{suffix}': figures are written as {PAGE}, {', '.join(PICTURES)}; choose one of them")


def browser() -> str:
    """Path of the installed browser that draws pictures; raises `MechdistillError` where there is none."""
    from choreographer.browsers.chromium import Chromium

    found = Chromium.find_browser(skip_local=False)
    if found is None:
        raise MechdistillError(
            f"no Chromium or Chrome found, which draws {', '.join(PICTURES)}: "
            f"'apt-get install chromium' or 'plotly_get_chrome', or write {PAGE}"
        )
    if not os.access(found, os.X_OK):
        raise MechdistillError(f"{found}: is no program, though BROWSER_PATH says so; set it to a Chromium or Chrome")
    return found
