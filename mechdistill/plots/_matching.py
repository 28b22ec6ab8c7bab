"""Whose heads do what whose heads do: similarity of every pair as a heat map, the best assignment outlined."""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import Head
from mechdistill.plots._cells import Cells, Scale, heatmap, numbers
from mechdistill.plots._colours import ORANGE, RISING
from mechdistill.plots._style import page, styled
from mechdistill.tables.metrics import PATTERN_SIMILARITY

_CELL, _LEAST = 30, 160  # pixels
_COLUMNS = 2
_LEVEL = 0.05
_SCALE = Scale(0.0, 1.0, RISING)


def matching_figure(table: pd.DataFrame) -> go.Figure | None:
    """A `match` table as heat maps, a panel a pair of runs: rows are heads of `run`, columns those of `other`.

    Matched heads are outlined: by a whole line where no more than one untrained network in twenty has any match as
    high, by a dotted one otherwise. None where there is no pair.
    """
    pairs = [(pair, part) for pair, part in table.groupby(["run", "step", "other", "other_step"], sort=False)]
    if not pairs:
        return None
    columns = min(len(pairs), _COLUMNS)
    drawn = [_cells(part) for _, part in pairs]
    titles = [f"{run} @{step} with {other} @{last}" for (run, step, other, last), _ in pairs]
    panel = max(_LEAST, _CELL * max(len(each.y) for each in drawn))
    made = page(titles, columns, panel, aside=24 * columns, horizontal_spacing=0.09)
    for n, (at, each, (_, part)) in enumerate(zip(made.places, drawn, pairs, strict=True)):
        made.figure.add_trace(heatmap(each, _SCALE, "similarity", panel, legend=n == 0), **at)
        made.figure.add_trace(numbers(each, _SCALE, columns, visible=True), **at)
        for row in part[part["matched"] & part["layer"].notna()].to_dict("records"):
            x, y = each.x.index(_name(row, "other_")), each.y.index(_name(row, ""))
            known = pd.notna(row["p"]) and row["p"] <= _LEVEL
            line = {"color": ORANGE, "width": 3, "dash": "solid" if known else "dot"}
            box = {"x0": x - 0.46, "x1": x + 0.46, "y0": y - 0.46, "y1": y + 0.46}
            made.figure.add_shape(type="rect", line=line, **box, **at)
    bare = {"showgrid": False, "type": "category", "showline": False, "ticks": ""}
    made.figure.update_xaxes(bare).update_yaxes({**bare, "autorange": "reversed"})
    reading = "Rows are heads of the first run, columns of the second; 1: the same attention in the same sequences. "
    reading += "Outlined: the best one-to-one match; dotted where untrained networks match as well. Hovering says more."
    reading += " Twins share what they start from: hovering says how much." * bool(table["initial"].notna().any())
    return styled(made, "Whose heads do what whose heads do", reading)


def _cells(part: pd.DataFrame) -> Cells:
    records = part[part["layer"].notna()].to_dict("records")
    y, x = (list(dict.fromkeys(_name(row, whose) for row in records)) for whose in ("", "other_"))
    z, text = np.full((len(y), len(x)), np.nan), np.full((len(y), len(x)), "", dtype=object)
    for row in records:
        place = y.index(_name(row, "")), x.index(_name(row, "other_"))
        z[place], text[place] = row["value"], _hover(row)
    return Cells(z, text, x, y)


def _name(row: dict[Hashable, Any], whose: str) -> str:
    return str(Head(int(row[f"{whose}layer"]), int(row[f"{whose}head"])))


def _hover(row: dict[Hashable, Any]) -> str:
    lines = [f"{_name(row, '')} with {_name(row, 'other_')}", f"{PATTERN_SIMILARITY.label} {row['value']:.3f}"]
    if row["matched"]:
        if pd.notna(row["p"]):
            lines.append(f"untrained networks {row['untrained']:.3f}, p {row['p']:.2g}")
        lines.append(f"other sequences {row['shuffled']:.3f}, p {row['p_shuffled']:.2g}")
        lines.append(f"any labelling {row['relabelled']:.3f}")
        if pd.notna(row["initial"]):
            lines.append(f"at step 0, from the same weights {row['initial']:.3f}")
    return "\n".join(lines)
