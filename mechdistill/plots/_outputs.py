"""What heads and layers say of the token that can be copied: logits that heads add, and how well layers predict it."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import Head
from mechdistill.circuits.scores import DIRECT_ATTRIBUTION, LOGIT_LENS
from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import ARMS, FAINT, INK, SHADES
from mechdistill.plots._seeds import band_in_words, curve
from mechdistill.plots._style import page, styled
from mechdistill.plots._twins import beside, clear_empty, columns_for
from mechdistill.tables import last_step

_NULL = "toward another position's token"
_CHANCE = "uniform guessing"
_DASHES = ("solid", "dash", "dashdot", "longdash")
_SYMBOLS = ("circle", "square", "diamond", "triangle-up")
_MOST_LAYERS = 6


def head_outputs_figure(table: pd.DataFrame) -> go.Figure | None:
    """An `induction-scores` table as bars: direct logit attribution of each head at each run's last checkpoint.

    A panel for each run, twins side by side. Logits, any range; a mark is the null: the same toward the right token of
    another position. None where nothing was attributed.
    """
    rows = last_step(table[table["metric"] == DIRECT_ATTRIBUTION.name])
    if rows.empty:
        return None
    order, columns = beside(rows)
    at = rows.groupby("run")["step"].first()
    made = page([f"{run} @{at[run]}" if run else "" for run in order], columns, 210, shared_yaxes=True)
    for run, place in zip(order, made.places, strict=True):
        part = rows[rows["run"] == run].sort_values(["layer", "head"])
        if part.empty:
            continue
        heads = [str(Head(int(row["layer"]), int(row["head"]))) for row in part.to_dict("records")]
        first = place == made.places[0]
        bars = {"color": SHADES[2], "line": {"width": 0}}
        made.figure.add_trace(_of_heads(go.Bar, heads, part["value"], "added by the head", first, marker=bars), **place)
        marks = {"color": INK, "symbol": "line-ew-open", "size": 14, "line": {"width": 2}}
        null = _of_heads(go.Scatter, heads, part["null_mean"], _NULL, first, marker=marks, mode="markers")
        made.figure.add_trace(null, **place)
        made.figure.update_yaxes(zeroline=True, **place)
        if place["col"] == 1:
            made.figure.update_yaxes(title_text="logits", **place)
    made.figure.update_xaxes(type="category", tickangle=-90 if len(rows) / len(at) > 4 else 0)
    clear_empty(made.figure, order, made.places)
    return styled(
        made,
        "What each head itself adds to the right token's logit where it can be copied",
        "Above 0 the head speaks for the token that came last time, below against it; a head that does so only there "
        "stands far from its mark. What later layers make of its output is not counted.",
        legend=["added by the head", _NULL],
    )


def _of_heads(kind: Any, heads: list[str], values: Any, name: str, first: bool, **how: Any) -> Any:
    return kind(
        x=heads, y=list(values), name=name, legendgroup=name, showlegend=first, hovertemplate="%{x}\n%{y:.3f}", **how
    )


def layer_outputs_figure(table: pd.DataFrame) -> go.Figure | None:
    """An `induction-scores` table as curves: loss by logit lens after each layer against tokens trained on.

    A panel for each arm; seeds as mean and band; uniform guessing, ln(vocab), dotted. Nats, 0 and above, on a linear
    axis. Of more than 6 layers, 6 evenly spread ones, the last among them. None where no run has two checkpoints.
    """
    rows = table[table["metric"] == LOGIT_LENS.name]
    if not bool((rows.groupby("run")["step"].nunique() > 1).any()):
        return None
    layers = _spread(sorted({int(layer) for layer in rows["layer"]}))
    names = {layer: f"after layer {layer}" for layer in layers}
    arms = list(looks(rows))
    columns = columns_for(len(arms))
    made = page(arms, columns, 230, shared_yaxes=True, horizontal_spacing=0.03)
    for arm, place in zip(arms, made.places, strict=True):
        first = place == made.places[0]
        of_arm = rows[rows["arm"] == arm]
        for i, layer in enumerate(layers):
            own = Look((*SHADES, *ARMS)[i % 4], _DASHES[i % 4], _SYMBOLS[i % 4])
            part = of_arm[of_arm["layer"] == layer]
            name = names[layer]
            curve(made.figure, part, own, place, name=name, group=name, legend=first, of=f"{arm}, {name}")
        tokens = sorted({float(x) for x in of_arm["tokens"]})
        made.figure.add_trace(
            go.Scatter(
                x=[tokens[0], tokens[-1]],
                y=[float(of_arm["chance"].iloc[0])] * 2,
                mode="lines",
                line={"color": FAINT, "dash": "dot", "width": 2},
                name=_CHANCE,
                legendgroup=_CHANCE,
                showlegend=first,
                hovertemplate="uniform guessing: %{y:.3f}",
            ),
            **place,
        )
        made.figure.update_xaxes(
            title_text="tokens trained on", rangemode="tozero", nticks=5 if columns < 4 else 3, tickangle=0, **place
        )
        made.figure.update_yaxes(rangemode="tozero", **place)
        if place["col"] == 1:
            made.figure.update_yaxes(title_text="loss where it can be copied, nats", **place)
    return styled(
        made,
        "After which layer the token that can be copied is known",
        "Lower: the unembedding, read right after that layer, predicts the token better. The last layer's curve is the "
        "model's own loss." + band_in_words(rows),
        legend=[*names.values(), _CHANCE],
    )


def _spread(layers: list[int]) -> list[int]:
    """All of few layers; of many so many that are evenly spread, the last among them."""
    if len(layers) <= _MOST_LAYERS:
        return layers
    step = (len(layers) - 1) / (_MOST_LAYERS - 1)
    return [layers[round(i * step)] for i in range(_MOST_LAYERS)]
