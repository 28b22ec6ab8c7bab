"""What knocking out each head and each set costs, twins side by side, controls in grey."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mechdistill.circuits import ABLATIONS, Head, targets
from mechdistill.plots._style import SHADES, styled
from mechdistill.tables import title
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA


def ablation_figure(table: pd.DataFrame) -> go.Figure:
    """An `ablate` table as bars: rise in copy loss at occurrence >= 2, nats, one panel a run.

    Below the single heads stand the sets of the copy circuit; under each half, in grey, the mean of its controls,
    with a line from the least to the most harmful draw. Of several checkpoints, the last of each run is shown.
    """
    copying = COPY_LOSS_DELTA.name in set(table["metric"])
    shown = COPY_LOSS_DELTA if copying else BIGRAM_KL_DELTA
    copy = table[(table["metric"] == shown.name) & table["bucket"].isna()]
    copy = copy[copy["step"] == copy.groupby("run")["step"].transform("max")].copy()
    copy["label"] = [_label(row) for row in copy.to_dict("records")]
    runs = list(dict.fromkeys(copy["run"]))
    columns = min(len(runs), 3)
    n_rows = -(-len(runs) // columns)
    labels = list(dict.fromkeys(copy[copy["what"] == targets.HEAD.name]["label"]))
    labels += [label for label in targets.LABELS.values() if label in set(copy["label"])]
    height = 110 + n_rows * (110 + 30 * len(labels))
    figure = make_subplots(
        rows=n_rows,
        cols=columns,
        subplot_titles=[f"{run} @{copy.loc[copy['run'] == run, 'step'].iloc[0]}" for run in runs],
        shared_yaxes=True,
        shared_xaxes="all",  # pyright: ignore[reportArgumentType]  (plotly's annotation says bool)
        horizontal_spacing=0.03,
        vertical_spacing=min(0.2, 90 / height),
    )
    for i, run in enumerate(runs):
        part = copy[copy["run"] == run]
        for ablation in reversed(list(dict.fromkeys(part["ablation"]))):  # plotly stacks a group upwards
            groups = part[part["ablation"] == ablation].groupby("label", sort=False)
            stats = groups["value"].agg(["mean", "min", "max", "size"])
            control, heads = groups["control"].first(), groups["heads"].first()
            figure.add_trace(
                go.Bar(
                    y=list(stats.index),
                    x=stats["mean"],
                    orientation="h",
                    name=_ablation_label(ablation),
                    legendgroup=ablation,
                    showlegend=i == 0,
                    marker={"color": [_colour(ablation, c) for c in control]},
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": stats["max"] - stats["mean"],
                        "arrayminus": stats["mean"] - stats["min"],
                        "thickness": 1.2,
                        "width": 3,
                    },
                    customdata=[
                        ["" if pd.isna(names) else f" ({names})", _draws(row)]
                        for names, row in zip(heads, stats.to_dict("records"), strict=True)
                    ],
                    hovertemplate="%{y}%{customdata[0]}<br>Δ %{x:.3f} nats%{customdata[1]}<extra></extra>",
                ),
                row=i // columns + 1,
                col=i % columns + 1,
            )
        figure.update_yaxes(
            categoryorder="array", categoryarray=labels[::-1], row=i // columns + 1, col=i % columns + 1
        )
        figure.update_xaxes(title_text=title(shown), row=i // columns + 1, col=i % columns + 1)
    loss = "copy loss (occurrence ≥ 2)" if copying else "KL to the oracle (there is nothing to copy)"
    heading = f"Rise of the {loss} when heads are knocked out; controls in grey, with their range"
    return styled(figure, heading, height).update_layout(
        barmode="group",
        margin={"t": 120},
        legend={
            "orientation": "h",
            "traceorder": "reversed",
            "x": 1,
            "xanchor": "right",
            "y": 1 + 45 / height,
            "yanchor": "bottom",
        },
    )


def _label(row: dict[Any, Any]) -> str:
    if row["what"] == targets.HEAD.name:
        return str(Head(row["layer"], row["head"]))
    return targets.LABELS.get(row["what"], str(row["what"]))


def _draws(row: dict[Any, Any]) -> str:
    """The spread of what a bar is the mean of."""
    return f", mean of {row['size']:.0f} from {row['min']:.3f} to {row['max']:.3f}" if row["size"] > 1 else ""


def _ablation_label(name: str) -> str:
    return ABLATIONS[name].label if name in ABLATIONS else name


def _colour(name: str, control: bool) -> str:
    """An ablation's shade of blue, its controls' of grey."""
    slot = ABLATIONS[name].colour if name in ABLATIONS else len(ABLATIONS)
    return SHADES[slot % len(SHADES)][int(control)]
