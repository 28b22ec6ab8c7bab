"""What knocking out each head and each set costs, twins side by side, controls in grey."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import ABLATIONS, Head, targets
from mechdistill.plots._style import INK, SHADES, page, styled
from mechdistill.plots._twins import beside, clear_empty
from mechdistill.tables import title
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA


def ablation_figure(table: pd.DataFrame) -> go.Figure:
    """An `ablate` table as bars: rise in copy loss at occurrence >= 2, nats, one panel a run, on one scale.

    Below the single heads stand the sets of the copy circuit; under each half, in grey, the mean of its controls,
    with a line from the least to the most harmful draw. Every panel has a place for every bar, and twins stand beside
    or below each other. Of several checkpoints, the last of each run is shown.
    """
    copying = COPY_LOSS_DELTA.name in set(table["metric"])
    shown = COPY_LOSS_DELTA if copying else BIGRAM_KL_DELTA
    copy = table[(table["metric"] == shown.name) & table["bucket"].isna()]
    copy = copy[copy["step"] == copy.groupby("run")["step"].transform("max")].copy()
    copy["label"] = [_label(row) for row in copy.to_dict("records")]
    labels = list(dict.fromkeys(copy[copy["what"] == targets.HEAD.name]["label"]))
    labels += [label for label in targets.LABELS.values() if label in set(copy["label"])]
    ablations = list(dict.fromkeys(copy["ablation"]))
    runs, columns = beside(copy)
    panel = 24 + len(labels) * (10 + 11 * len(ablations))
    step_of = dict(zip(copy["run"], copy["step"], strict=True))
    titles = [f"{run} @{step_of[run]}" if run else "" for run in runs]
    made = page(titles, columns, panel, horizontal_spacing=0.03)
    figure = made.figure
    for run, at in zip(runs, made.places, strict=True):
        if not run:
            continue
        part = copy[copy["run"] == run]
        for ablation in reversed(ablations):  # plotly stacks a group upwards
            groups = part[part["ablation"] == ablation].groupby("label", sort=False)
            stats = groups["value"].agg(["mean", "min", "max", "size"])
            drawn = stats[["min", "max"]].where(stats["min"] < stats["max"])  # no line where there is one draw
            control, heads = groups["control"].first(), groups["heads"].first()
            figure.add_trace(
                go.Bar(
                    y=list(stats.index),
                    x=stats["mean"],
                    orientation="h",
                    name=_ablation_label(ablation),
                    legendgroup=ablation,
                    showlegend=run == runs[0],
                    marker={"color": [_colour(ablation, c) for c in control]},
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": drawn["max"] - stats["mean"],
                        "arrayminus": stats["mean"] - drawn["min"],
                        "color": INK,
                        "thickness": 1.2,
                        "width": 3,
                    },
                    customdata=[
                        ["" if pd.isna(names) else f" ({names})", _draws(row)]
                        for names, row in zip(heads, stats.to_dict("records"), strict=True)
                    ],
                    hovertemplate="%{y}%{customdata[0]}<br>Δ %{x:.3f} nats%{customdata[1]}<extra></extra>",
                ),
                **at,
            )
        figure.update_yaxes(
            # the order and the range say that nothing moves up where a run lacks a bar
            {"type": "category", "categoryorder": "array", "categoryarray": labels[::-1]},
            range=[-0.5, len(labels) - 0.5],
            showticklabels=at["col"] == 1,
            **at,
        )
        figure.update_xaxes(title_text=title(shown), matches="x", nticks=5, zeroline=True, **at)
    clear_empty(figure, runs, made.places)
    loss = "copy loss (occurrence ≥ 2)" if copying else "KL to the oracle (there is nothing to copy)"
    heading = f"Rise of the {loss} when heads are knocked out; controls in grey, with their range"
    return styled(made, heading, legend=[_ablation_label(name) for name in ablations]).update_layout(
        barmode="group", bargap=0.25, legend={"traceorder": "reversed"}
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
