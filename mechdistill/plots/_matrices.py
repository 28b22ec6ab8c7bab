"""A head's full QK and OV circuits as heat maps, token × token, with a slider over checkpoints."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mechdistill.plots._colours import FAINT, SIGNED
from mechdistill.plots._slider import slider
from mechdistill.plots._style import page, styled

_PANEL = 230


class _Panel(NamedTuple):
    """One matrix at every checkpoint."""

    title: str
    rows: str
    columns: str
    values: dict[int, NDArray[np.float32]]


def token_matrices_figure(table: pd.DataFrame) -> go.Figure:
    """A `token_matrices` table of one run: a panel a matrix, at its last checkpoint; the slider goes to the others.

    Colours say how far an entry is above or below its row's mean; the scale is a panel's own, ± what its title says,
    and the same at every checkpoint, so that matrices are seen to grow. In grey hovering tells above from below. A line
    parts triggers, which come first, from other tokens.
    """
    first = table.iloc[0]
    head = f"L{first['layer']}H{first['head']}"
    symbols = list(dict.fromkeys(table["row"]))
    triggers = table[table["trigger"]]["row"].nunique()
    panels = _panels(table, head, len(symbols))
    steps = sorted(panels[0].values)
    extent = [max(float(np.abs(values).max()) for values in panel.values.values()) or 1.0 for panel in panels]
    titles = [f"{panel.title} (±{far:.2g})" for panel, far in zip(panels, extent, strict=True)]
    made = page(titles, len(panels), _PANEL, horizontal_spacing=0.09)
    for panel, far, place in zip(panels, extent, made.places, strict=True):
        made.figure.add_trace(
            go.Heatmap(
                z=panel.values[steps[-1]], x=symbols, y=symbols, zmin=-far, zmax=far, colorscale=SIGNED,
                showscale=False, hovertemplate=f"{panel.rows} %{{y}}\n{panel.columns} %{{x}}\n%{{z:.3g}}",
            ),
            **place,
        )  # fmt: skip
        made.figure.update_xaxes(title_text=panel.columns, **place).update_yaxes(title_text=panel.rows, **place)
        if 0 < triggers < len(symbols):
            for line in (made.figure.add_vline, made.figure.add_hline):
                line(triggers - 0.5, line={"color": FAINT, "width": 1, "dash": "dot"}, **place)
    bare = {"showgrid": False, "type": "category", "showticklabels": False, "ticks": "", "showline": False}
    made.figure.update_xaxes(bare).update_yaxes({**bare, "autorange": "reversed"})
    moving = len(steps) > 1
    if moving:
        made.figure.frames = [
            go.Frame(
                name=str(step),
                data=[{"type": "heatmap", "z": panel.values[step]} for panel in panels],
                traces=list(range(len(panels))),
            )
            for step in steps
        ]
        made.figure.update_layout(sliders=[slider(table, steps)])
    reading = "By weights alone: red above the mean of its row, blue below. "
    reading += "A head that matches, or copies, has a red diagonal. " + "Triggers come first." * bool(triggers)
    return styled(made, f"{first['run']}: what {head} matches, and what it moves", reading, below=100 * moving)


def _panels(table: pd.DataFrame, head: str, vocab: int) -> list[_Panel]:
    panels: dict[tuple[str, str], _Panel] = {}
    keys = ["matrix", "source_layer", "source_head", "step"]
    for _, part in table.groupby(keys, sort=False, dropna=False):
        first = part.iloc[0]
        matrix = str(first["matrix"])
        through = "" if pd.isna(first["source_layer"]) else f"L{first['source_layer']}H{first['source_head']}"
        if (matrix, through) not in panels:
            panels[matrix, through] = _Panel(*_words(matrix, head, through), {})
        values = part["value"].to_numpy(dtype=np.float32).reshape(vocab, vocab)
        panels[matrix, through].values[int(first["step"])] = values
    return list(panels.values())


def _words(matrix: str, head: str, through: str) -> tuple[str, str, str]:
    """Title, rows and columns."""
    if matrix == "OV":
        return f"OV of {head}", "token looked at", "next token"
    if through:
        return f"QK of {head} through {through}", "token at the query", f"token that {through} moved"
    return f"QK of {head}", "token at the query", "token at the source"
