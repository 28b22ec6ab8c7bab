"""Text in figures: plotly reads it as markup, so that every string of a figure is escaped, once, when it is finished.

Figures are written with plain text: "\\n" breaks a line, and nothing else is markup. What comes from a user (an arm, a
symbol, a measure's question) may hold anything.
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go


def finished(figure: go.Figure) -> go.Figure:
    """The figure with its text escaped, and without the second box that plotly hangs beside a hover text."""
    parts = {"data": figure.data, "frames": figure.frames}
    plain = {name: [part.to_plotly_json() for part in of] for name, of in parts.items()}
    return go.Figure(_escaped({**plain, "layout": figure.layout.to_plotly_json()}))


def _escaped(value: Any, key: str = "") -> Any:
    if isinstance(value, str):
        text = escape(value, quote=False).replace("\n", "<br>")
        return f"{text}<extra></extra>" if key == "hovertemplate" else text
    if isinstance(value, dict):
        return {name: _escaped(part, name) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(part) for part in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return np.vectorize(_escaped, otypes=[object])(value) if value.size else value
    return value


def broken(text: str, width: int) -> str:
    """In lines of at most `width` characters; a number stays beside its sign.

    Names are broken behind "/", and at hyphens only where that saves a line, or nothing else fits.
    """
    joined = re.sub(r"[ \t\r\n]+", " ", text).replace("≥ ", "≥\u00a0").replace("@ ", "@\u00a0")
    coarse = _filled(re.split(r"(?<=[ /])", joined), width)
    parts = re.split(r"(?<=[ /_])|(?<=\w-)(?=\w)", joined)
    fine = _filled((part[i : i + width] for part in parts for i in range(0, len(part), width)), width)
    fits = max(map(len, coarse)) <= width
    return "\n".join(coarse if fits and len(coarse) <= len(fine) else fine) or text


def _filled(parts: Iterable[str], width: int) -> list[str]:
    """As many parts a line as fit into it."""
    lines = [""]
    for part in parts:
        if lines[-1] and len((lines[-1] + part).rstrip(" ")) > width:
            lines.append("")
        lines[-1] += part
    return [line.strip(" ") for line in lines]


def shortened(names: Iterable[str], width: int) -> dict[str, str]:
    """Every name, in at most `width` characters, with its middle left out where it is longer; no two alike."""
    whole = list(dict.fromkeys(names))
    for room in range(width, max([width, *map(len, whole)]) + 1):
        short = [
            name if len(name) <= room else f"{name[: room // 2]}…{name[len(name) - (room - 1) // 2 :]}"
            for name in whole
        ]
        if len(set(short)) == len(whole):
            return dict(zip(whole, short, strict=True))
    raise AssertionError("whole names are not alike")
