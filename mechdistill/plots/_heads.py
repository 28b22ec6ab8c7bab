"""Head scores as heat maps: layer × head, a column for each arm, a slider over checkpoints, a menu of scores."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdistill.plots._style import INK, styled

_FIRST = "trigger-lookup"


def induction_scores_figure(table: pd.DataFrame) -> go.Figure:
    """An `induction-scores` table as heat maps, twins side by side (columns: arms, rows: seeds).

    The menu chooses the score, the slider the checkpoint; a run without that checkpoint shows its latest before it.
    Hovering gives the value with its chance level, null and untrained twin.
    """
    runs = list(dict.fromkeys(zip(table["run"], table["arm"], table["seed"], strict=True)))
    arms = list(dict.fromkeys(arm for _, arm, _ in runs))
    seeds = list(dict.fromkeys(seed for _, _, seed in runs))
    metrics = list(dict.fromkeys(table["metric"]))
    shown = _FIRST if _FIRST in metrics else metrics[0]
    steps = sorted({int(step) for step in table["step"]})
    by_cell = dict(iter(table.groupby(["run", "metric", "step"], sort=False)))
    moving = bool((table.groupby("run")["step"].nunique() > 1).any())
    own_steps = {run: sorted(set(part["step"])) for run, part in table.groupby("run")}

    figure = make_subplots(
        rows=len(seeds),
        cols=len(arms),
        subplot_titles=[f"{arm}, seed {seed}" for seed in seeds for arm in arms],
        horizontal_spacing=0.12 / len(arms),
        vertical_spacing=min(0.25, 0.6 / len(seeds)),
    )
    cells = [(run, arm, seed, metric) for metric in metrics for run, arm, seed in runs]

    def heatmap(run: str, metric: str, step: int) -> go.Heatmap:
        latest = max((s for s in own_steps[run] if s <= step), default=own_steps[run][0])
        part = by_cell.get((run, metric, latest))
        if part is None:
            return go.Heatmap(visible=metric == shown)
        shape = (int(part["layer"].max()) + 1, int(part["head"].max()) + 1)
        z = np.full(shape, np.nan)
        text = np.full(shape, "", dtype=object)
        for row in part.to_dict("records"):
            layer, head = row["layer"], row["head"]
            z[layer, head] = row["value"]
            text[layer, head] = (
                f"L{layer}H{head}  step {latest}<br>{metric} {row['value']:.3f}<br>chance {row['chance']:.3f}<br>"
                f"null {row['null_mean']:.3f} ± {row['null_sd']:.3f}<br>null, best head {row['null_max']:.3f}<br>"
                f"untrained {row['untrained']:.3f}"
            )
        return go.Heatmap(
            z=z,
            text=text,
            hovertemplate="%{text}<extra></extra>",
            texttemplate="%{z:.2f}",
            x=[f"H{head}" for head in range(shape[1])],
            y=[f"L{layer}" for layer in range(shape[0])],
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            colorbar={"title": "attention", "len": 0.9},
            showscale=run == runs[0][0],
            visible=metric == shown,
            xgap=2,
            ygap=2,
        )

    for run, arm, seed, metric in cells:
        trace = heatmap(run, metric, steps[-1])
        figure.add_trace(trace, row=seeds.index(seed) + 1, col=arms.index(arm) + 1)
    figure.update_xaxes(showgrid=False).update_yaxes(showgrid=False, autorange="reversed")

    menu = [
        {
            "label": metric,
            "method": "restyle",
            "args": [{"visible": [m == metric for _, _, _, m in cells]}],
        }
        for metric in sorted(metrics, key=lambda metric: metric != shown)
    ]
    figure.update_layout(
        updatemenus=[{"buttons": menu, "x": 1.0, "xanchor": "right", "y": 1.0, "yanchor": "bottom", "pad": {"b": 34}}]
    )
    if moving:
        # frames carry values only, so that a frame never undoes the menu's choice of score
        figure.frames = [
            go.Frame(
                name=str(step),
                data=[
                    {"type": "heatmap", "z": h.z, "text": h.text} for h in (heatmap(c[0], c[3], step) for c in cells)
                ],
                traces=list(range(len(cells))),
            )
            for step in steps
        ]
        figure.update_layout(sliders=[_slider(table, steps)])
    height = 190 + 210 * len(seeds) + (90 if moving else 0)
    return styled(figure, "Attention of each head to the positions that a score names", height).update_layout(
        margin={"b": 110 if moving else 50, "t": 110}
    )


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
