"""Heat maps whose numbers can be read: cells by head or by pair of heads, their colours, and the numbers on them."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mechdistill.plots._colours import ON_PALE, ON_STRONG, RISING, SIGNED
from mechdistill.tables import Metric

_FITS = {1: 22, 2: 11, 3: 6, 4: 5, 5: 4}
"""Numbers beside each other in a panel, by how many panels share a row."""
_ROWS_FIT = 12


class Scale(NamedTuple):
    """The colours of a score: its whole range where that is finite, else what occurs."""

    low: float
    high: float
    colours: tuple[tuple[float, str], ...]

    def strength(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each value's colour is from the page's, in [0, 1]."""
        share = (values - self.low) / (self.high - self.low)
        return np.abs(2 * share - 1) if self.colours == SIGNED else share


class Cells(NamedTuple):
    """z [row, column], what hovering says of each, and the names of columns and rows."""

    z: NDArray[np.float64]
    text: NDArray[np.object_]
    x: list[str]
    y: list[str]


def scale_of(score: Metric, values: "pd.Series[float]") -> Scale:
    """From the score's low to its high; of a signed score, as far to both sides of 0."""
    low = score.low if np.isfinite(score.low) else min(0.0, float(values.min()))
    high = score.high if np.isfinite(score.high) else max(0.0, float(values.max()))
    if low >= 0:
        return Scale(low, high if high > low else low + 1, RISING)
    far = max(-low, high)
    return Scale(-far, far, SIGNED)


def cells(part: pd.DataFrame) -> Cells:
    """The rows of one score of one run and step: layer × head, or later head × earlier head."""
    records = part.to_dict("records")
    if part["source_layer"].isna().all():
        places = [(int(row["layer"]), int(row["head"])) for row in records]
        y = [f"L{layer}" for layer in range(max(layer for layer, _ in places) + 1)]
        x = [f"H{head}" for head in range(max(head for _, head in places) + 1)]
    else:
        later = [f"L{row['layer']}H{row['head']}" for row in records]
        earlier = [f"from L{row['source_layer']}H{row['source_head']}" for row in records]
        y, x = list(dict.fromkeys(later)), list(dict.fromkeys(earlier))
        places = [(y.index(one), x.index(other)) for one, other in zip(later, earlier, strict=True)]
    assert len(set(places)) == len(places), "two values of one score for one head"
    z, text = np.full((len(y), len(x)), np.nan), np.full((len(y), len(x)), "", dtype=object)
    for place, row in zip(places, records, strict=True):
        z[place], text[place] = row["value"], _hover(row)
    return Cells(z, text, x, y)


def heatmap(drawn: Cells, scale: Scale, unit: str, panel: int, *, legend: bool, visible: bool = True) -> go.Heatmap:
    """The cells in their colours; with `legend`, a colour bar as long as the panel is high, in pixels."""
    return go.Heatmap(
        z=drawn.z,
        x=drawn.x,
        y=drawn.y,
        text=drawn.text,
        hovertemplate="%{text}<extra></extra>",
        zmin=scale.low,
        zmax=scale.high,
        colorscale=scale.colours,
        colorbar=colour_bar(unit, panel),
        showscale=legend,
        visible=visible,
        xgap=2,
        ygap=2,
    )


def colour_bar(unit: str, length: int) -> dict[str, Any]:
    """What colours stand for, beside the first row of panels."""
    return {
        "title": {"text": unit, "side": "top", "font": {"size": 12}},
        "lenmode": "pixels",
        "len": length,
        "y": 1,
        "yanchor": "top",
        "thickness": 14,
        "outlinewidth": 0,
    }


def numbers(drawn: Cells, scale: Scale, columns: int, visible: bool) -> go.Scatter:
    """The values as text over their cells, black or white as each cell asks; none where they would not fit."""
    fits = len(drawn.x) <= _FITS[columns] and len(drawn.y) <= _ROWS_FIT
    places = [(i, j) for i in range(len(drawn.y)) for j in range(len(drawn.x)) if np.isfinite(drawn.z[i, j])]
    strong = scale.strength(drawn.z) >= 0.5
    return go.Scatter(
        x=[drawn.x[j] for _, j in places],
        y=[drawn.y[i] for i, _ in places],
        text=[f"{drawn.z[place]:.2f}" if fits else "" for place in places],
        textfont={
            "size": 11 if columns < 4 else 10,
            "color": [ON_STRONG if strong[place] else ON_PALE for place in places],
        },
        mode="text",
        hoverinfo="skip",
        showlegend=False,
        visible=visible,
    )


def _hover(row: dict[Hashable, Any]) -> str:
    source = "" if pd.isna(row["source_layer"]) else f"L{row['source_layer']}H{row['source_head']} → "
    lines = [f"{source}L{row['layer']}H{row['head']}  step {row['step']}", f"{row['metric']} {row['value']:.3f}"]
    if pd.notna(row["chance"]):
        lines.append(f"chance {row['chance']:.3f}")
    if pd.notna(row["null_mean"]):
        spread = "" if pd.isna(row["null_sd"]) else f" ± {row['null_sd']:.3f}"
        lines.append(f"null {row['null_mean']:.3f}{spread}\nnull, best head {row['null_max']:.3f}")
    if pd.notna(row["p"]):
        lines.append(f"p {row['p']:.2g} of no more than .1 beyond the null, all heads together")
    if pd.notna(row["untrained"]):
        lines.append(f"untrained {row['untrained']:.3f}")
    return "\n".join(lines)
