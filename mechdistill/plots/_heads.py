"""Head scores as heat maps: layer × head, a panel for each run, a slider over checkpoints, a menu of scores.

A score of head pairs is drawn as later head × earlier head, on the same page and under the same menu.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray

from mechdistill.circuits import SCORES, ranking
from mechdistill.plots._style import FAINT, INK, page, styled
from mechdistill.plots._twins import beside, clear_empty
from mechdistill.tables import Metric, metric


class _Cell(NamedTuple):
    """One heat map: a run's score."""

    run: str
    score: str


class _Scale(NamedTuple):
    """The colours of a score: its whole range where that is finite, else what occurs."""

    low: float
    high: float
    colours: str


def induction_scores_figure(table: pd.DataFrame) -> go.Figure:
    """An `induction-scores` table as heat maps, a panel a run, twins side by side.

    The menu chooses the score, the slider the checkpoint; a run without that checkpoint shows its latest before it.
    Hovering gives the value with its chance level, null and untrained twin. Colours span the score's range; a signed
    score has white at 0.
    """
    order, columns = beside(table)
    runs = [run for run in order if run]
    names = list(dict.fromkeys(table["metric"]))
    shown = first if (first := ranking(set(names)).name) in names else names[0]
    steps = sorted({int(step) for step in table["step"]})
    by_cell: dict[Hashable, pd.DataFrame] = dict(iter(table.groupby(["run", "metric", "step"], sort=False)))
    moving = bool((table.groupby("run")["step"].nunique() > 1).any())
    own_steps = {str(run): sorted(set(part["step"])) for run, part in table.groupby("run")}
    scales = {str(name): _scale(_score(str(name)), part["value"]) for name, part in table.groupby("metric")}

    titles = [_title(run, own_steps, moving) if run else "" for run in order]
    made = page(titles, columns, 200, horizontal_spacing=0.07)
    figure, place = made.figure, dict(zip(order, made.places, strict=True))
    cells = [_Cell(run, name) for name in names for run in runs]

    def heatmap(cell: _Cell, step: int) -> go.Heatmap:
        latest = max((s for s in own_steps[cell.run] if s <= step), default=own_steps[cell.run][0])
        part = by_cell.get((cell.run, cell.score, latest))
        visible = cell.score == shown
        if part is None:
            return go.Heatmap(visible=visible)
        scale = scales[cell.score]
        drawn = _pairs(part) if part["source_layer"].notna().any() else _heads(part)
        return go.Heatmap(
            **drawn,
            hovertemplate="%{text}<extra></extra>",
            texttemplate="%{z:.2f}",
            textfont={"size": 11},
            zmin=scale.low,
            zmax=scale.high,
            colorscale=scale.colours,
            colorbar={
                "title": {"text": _score(cell.score).unit or "score", "side": "top"},
                "lenmode": "pixels",
                "len": 200,
                "y": 1,
                "yanchor": "top",
                "thickness": 14,
            },
            showscale=cell.run == runs[0],
            visible=visible,
            xgap=2,
            ygap=2,
        )

    for cell in cells:
        figure.add_trace(heatmap(cell, steps[-1]), **place[cell.run])
    bare = {"showgrid": False, "type": "category", "showline": False, "ticks": ""}
    figure.update_xaxes(bare).update_yaxes({**bare, "autorange": "reversed"})
    clear_empty(figure, order, made.places)

    menu = [
        {
            "label": name,
            "method": "restyle",
            "args": [{"visible": [cell.score == name for cell in cells]}],
        }
        for name in sorted(names, key=lambda name: name != shown)
    ]
    figure.update_layout(
        updatemenus=[
            {
                "buttons": menu,
                "x": 1,
                "xanchor": "right",
                "y": 1,
                "yanchor": "bottom",
                "pad": {"b": 18 * made.title_lines + 14},
                "bgcolor": "white",
                "bordercolor": FAINT,
                "font": {"color": INK, "size": 13},
            }
        ]
    )
    if moving:
        # frames carry values only, so that a frame never undoes the menu's choice of score
        figure.frames = [
            go.Frame(
                name=str(step),
                data=[{"type": "heatmap", "z": h.z, "text": h.text} for h in (heatmap(cell, step) for cell in cells)],
                traces=list(range(len(cells))),
            )
            for step in steps
        ]
        figure.update_layout(sliders=[_slider(table, steps)])
    heading = "What each head does: scores of heads and head pairs"
    return styled(made, heading, above=44, below=100 * moving)


def _title(run: str, own_steps: dict[str, list[int]], moving: bool) -> str:
    """A run, and where it stands: at its step, or, under a slider, where it ends before others do."""
    last, longest = own_steps[run][-1], max(steps[-1] for steps in own_steps.values())
    if moving:
        return run if last == longest else f"{run} to @{last}"
    return f"{run} @{last}"


def _score(name: str) -> Metric:
    """The score of a name; of a user's file that is not loaded, only the name is known."""
    return SCORES[name] if name in SCORES else metric(name)


def _scale(score: Metric, values: "pd.Series[float]") -> _Scale:
    low = score.low if np.isfinite(score.low) else min(0.0, float(values.min()))
    high = score.high if np.isfinite(score.high) else max(0.0, float(values.max()))
    if low >= 0:
        return _Scale(low, high, "Cividis")
    far = max(-low, high)
    return _Scale(-far, far, "RdBu_r")


def _heads(part: pd.DataFrame) -> dict[str, Any]:
    """z [layer, head] and what hovering says."""
    shape = (int(part["layer"].max()) + 1, int(part["head"].max()) + 1)
    z, text = _filled(part, [(int(row["layer"]), int(row["head"])) for row in part.to_dict("records")], shape)
    x, y = [f"H{head}" for head in range(shape[1])], [f"L{layer}" for layer in range(shape[0])]
    return {"z": z, "text": text, "x": x, "y": y}


def _pairs(part: pd.DataFrame) -> dict[str, Any]:
    """z [later head, earlier head] and what hovering says."""
    records = part.to_dict("records")
    later = [f"L{row['layer']}H{row['head']}" for row in records]
    earlier = [f"L{row['source_layer']}H{row['source_head']}" for row in records]
    y, x = list(dict.fromkeys(later)), list(dict.fromkeys(earlier))
    places = [(y.index(one), x.index(other)) for one, other in zip(later, earlier, strict=True)]
    z, text = _filled(part, places, (len(y), len(x)))
    return {"z": z, "text": text, "x": [f"from {name}" for name in x], "y": y}


def _filled(
    part: pd.DataFrame, places: list[tuple[int, int]], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.object_]]:
    """Values and hover texts at their places; no place is filled twice."""
    assert len(set(places)) == len(places), "two values of one score for one head"
    z, text = np.full(shape, np.nan), np.full(shape, "", dtype=object)
    for place, row in zip(places, part.to_dict("records"), strict=True):
        z[place], text[place] = row["value"], _hover(row)
    return z, text


def _hover(row: dict[Hashable, Any]) -> str:
    source = "" if pd.isna(row["source_layer"]) else f"L{row['source_layer']}H{row['source_head']} → "
    lines = [f"{source}L{row['layer']}H{row['head']}  step {row['step']}", f"{row['metric']} {row['value']:.3f}"]
    if pd.notna(row["chance"]):
        lines.append(f"chance {row['chance']:.3f}")
    if pd.notna(row["null_mean"]):
        lines.append(f"null {row['null_mean']:.3f} ± {row['null_sd']:.3f}<br>null, best head {row['null_max']:.3f}")
    if pd.notna(row["p"]):
        lines.append(f"p {row['p']:.2g} of no more than .1 beyond the null, all heads together")
    if pd.notna(row["untrained"]):
        lines.append(f"untrained {row['untrained']:.3f}")
    return "<br>".join(lines)


def _slider(table: pd.DataFrame, steps: list[int]) -> dict[str, object]:
    tokens = dict(zip(table["step"].astype(int), table["tokens"].astype(int), strict=True))
    return {
        "active": len(steps) - 1,
        "currentvalue": {"prefix": "checkpoint: step ", "font": {"color": INK}},
        "pad": {"t": 45},
        "font": {"color": INK},
        "bordercolor": FAINT,
        "steps": [
            {
                "label": str(step),
                "method": "animate",
                "args": [[str(step)], {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}],
                "value": f"{step} ({tokens[step] / 1e6:.2f} M tokens)",
            }
            for step in steps
        ],
    }
