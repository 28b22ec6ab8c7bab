"""Head scores as heat maps: layer × head, a column for each arm, a slider over checkpoints, a menu of scores.

A score of head pairs is drawn as later head × earlier head, on the same page and under the same menu.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from mechdistill.circuits import SCORES, ranking
from mechdistill.plots._style import INK, styled
from mechdistill.tables import Metric, metric


class _Cell(NamedTuple):
    """One heat map: a run's score."""

    run: str
    arm: str
    seed: int
    score: str


class _Scale(NamedTuple):
    """The colours of a score: its whole range where that is finite, else what occurs."""

    low: float
    high: float
    colours: str


def induction_scores_figure(table: pd.DataFrame) -> go.Figure:
    """An `induction-scores` table as heat maps, twins side by side (columns: arms, rows: seeds).

    The menu chooses the score, the slider the checkpoint; a run without that checkpoint shows its latest before it.
    Hovering gives the value with its chance level, null and untrained twin. Colours span the score's range; a signed
    score has white at 0.
    """
    runs = list(dict.fromkeys(zip(table["run"], table["arm"], table["seed"], strict=True)))
    arms = list(dict.fromkeys(arm for _, arm, _ in runs))
    seeds = list(dict.fromkeys(seed for _, _, seed in runs))
    names = list(dict.fromkeys(table["metric"]))
    shown = first if (first := ranking(set(names)).name) in names else names[0]
    steps = sorted({int(step) for step in table["step"]})
    by_cell: dict[Hashable, pd.DataFrame] = dict(iter(table.groupby(["run", "metric", "step"], sort=False)))
    moving = bool((table.groupby("run")["step"].nunique() > 1).any())
    own_steps = {str(run): sorted(set(part["step"])) for run, part in table.groupby("run")}
    named = {(arm, seed): str(run) for run, arm, seed in runs}
    scales = {str(name): _scale(_score(str(name)), part["value"]) for name, part in table.groupby("metric")}

    figure = make_subplots(
        rows=len(seeds),
        cols=len(arms),
        subplot_titles=[_title(named.get((arm, seed)), own_steps, moving) for seed in seeds for arm in arms],
        horizontal_spacing=0.12 / len(arms),
        vertical_spacing=min(0.25, 0.6 / len(seeds)),
    )
    cells = [_Cell(run, arm, seed, name) for name in names for run, arm, seed in runs]

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
            zmin=scale.low,
            zmax=scale.high,
            colorscale=scale.colours,
            colorbar={"title": _score(cell.score).unit or "score", "len": 0.9},
            showscale=cell.run == runs[0][0],
            visible=visible,
            xgap=2,
            ygap=2,
        )

    for cell in cells:
        figure.add_trace(heatmap(cell, steps[-1]), row=seeds.index(cell.seed) + 1, col=arms.index(cell.arm) + 1)
    figure.update_xaxes(showgrid=False, type="category").update_yaxes(
        showgrid=False, type="category", autorange="reversed"
    )

    menu = [
        {
            "label": name,
            "method": "restyle",
            "args": [{"visible": [cell.score == name for cell in cells]}],
        }
        for name in sorted(names, key=lambda name: name != shown)
    ]
    figure.update_layout(
        updatemenus=[{"buttons": menu, "x": 1.0, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "pad": {"b": 34}}]
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
    height = 190 + 210 * len(seeds) + (90 if moving else 0)
    return styled(figure, "What each head does: scores of heads and head pairs", height).update_layout(
        margin={"b": 110 if moving else 50, "t": 110}
    )


def _title(run: str | None, own_steps: dict[str, list[int]], moving: bool) -> str:
    """A run, and where it stands: at its step, or, under a slider, where it ends before others do."""
    if run is None:
        return ""
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
