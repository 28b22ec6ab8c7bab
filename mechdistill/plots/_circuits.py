"""The circuit as a graph: what writes and what reads, layer above layer, and the edges that recover copying."""

import math
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._colours import ARMS, FAINT, INK, PAPER
from mechdistill.plots._style import page, styled
from mechdistill.tables import last_step
from mechdistill.tables.metrics import COPY_GAP, PATH_RECOVERED

_PANEL = 380
_SHOWN = 0.03  # of the gap: weaker edges are not drawn
_WIDEST = 9.0  # pixels, of an edge that recovers all
_LOOKS: dict[str, tuple[str, str, str]] = {
    "q": ("into queries", ARMS[4], "2px,3px"),
    "k": ("into keys", ARMS[1], "solid"),
    "v": ("into values", ARMS[0], "9px,3px"),
    "mlp": ("into an MLP", ARMS[2], "16px,4px"),
    "logits": ("into logits", ARMS[3], "9px,3px,2px,3px"),
}
"""Of what an edge leads into: its name, colour and dash. Edges that take copying away are faint.

Dashes are in pixels: those of plotly's names grow with the width, until a wide short edge is a single dash."""
_TAKES = "takes away"


class _Graph(NamedTuple):
    """Where the nodes of a run lie."""

    x: dict[str, float]
    y: dict[str, float]


def circuits_figure(table: pd.DataFrame) -> go.Figure:
    """A `circuits` table as one graph a run, at its last checkpoint.

    Nodes stand by layer, the embedding below, the logits above. An edge is as wide as the share of the copy gap that it
    recovers, at least .03 of it; its colour and dash say what the reader reads with. A run that does not tell one copy
    from another has no edges, and says so.
    """
    last = last_step(table)
    edges = last[last["metric"] == PATH_RECOVERED.name]
    gaps = last[last["metric"] == COPY_GAP.name].set_index("run")["value"]
    runs = list(dict.fromkeys(last["run"]))
    at = last.groupby("run")["step"].first()
    copies = set(edges["run"])
    said = {run: f"gap {gaps[run]:.1f} logits" if run in copies else "tells no copy from another" for run in runs}
    made = page([f"{run} @{at[run]}: {said[run]}" for run in runs], min(2, len(runs)), _PANEL, horizontal_spacing=0.06)
    named: set[str] = set()
    for run, place in zip(runs, made.places, strict=True):
        part = edges[edges["run"] == run]
        if part.empty:
            made.figure.add_trace(go.Scatter(x=[], y=[], showlegend=False), **place)
            continue
        graph = _laid_out(part)
        drawn = part[part["value"].abs() >= _SHOWN].sort_values("value", key=abs)
        for row in drawn.to_dict("records"):
            made.figure.add_trace(_edge(row, graph, named), **place)
        made.figure.add_trace(_nodes(graph, drawn), **place)
    bare: dict[str, Any] = {"visible": False, "showgrid": False}
    made.figure.update_xaxes({**bare, "range": [-0.12, 1.12]}).update_yaxes(bare)
    return styled(
        made,
        "Which head reads what of which",
        f"An edge is as wide as the share of copying it recovers alone while the rest runs corrupt (from {_SHOWN} up). "
        "Textbook: a previous-token head, into keys of the heads that look up, into logits.",
        legend=sorted(named),
    )


def _laid_out(edges: pd.DataFrame) -> _Graph:
    """The embedding at 0, each layer's heads and MLP above, the logits on top."""
    layers: dict[str, int] = {"embed": -1}
    for side, layer in (("source", "source_layer"), ("reader", "layer")):
        known = edges.dropna(subset=[layer])
        layers |= dict(zip(known[side], known[layer].astype(int), strict=True))
    layers["logits"] = max(layers.values()) + 1
    x: dict[str, float] = {}
    for layer in sorted(set(layers.values())):
        row = sorted(
            (name for name, of in layers.items() if of == layer), key=lambda name: (name.startswith("M"), name)
        )
        x |= {name: (i + 0.5) / len(row) for i, name in enumerate(row)}
    return _Graph(x, {name: float(layer + 1) for name, layer in layers.items()})


def _edge(row: dict[Any, Any], graph: _Graph, named: set[str]) -> go.Scatter:
    """An edge as a curve, so that those that skip a layer do not cross its nodes unseen."""
    name, colour, dash = _LOOKS[row["input"]]
    if row["value"] < 0:
        name, colour = _TAKES, FAINT
    (x0, y0), (x1, y1) = ((graph.x[end], graph.y[end]) for end in (row["source"], row["reader"]))
    aside = {"q": -0.035, "k": 0.0, "v": 0.035}.get(row["input"], 0.0) + (0.07 if y1 - y0 > 1 else 0.0)
    bent = [(t, aside * math.sin(math.pi * t)) for t in (i / 16 for i in range(17))]
    said = [f"{row['source']} {name} of {row['reader']}", f"recovers {row['value']:.3f} of the gap"]
    said += [f"another pair's: {row['null']:.3f}"]
    if pd.notna(row["composition"]):
        said.append(f"composition {row['composition']:.3f}, random {row['chance']:.3f}")
    shown = name not in named
    named.add(name)
    return go.Scatter(
        x=[x0 + (x1 - x0) * t + off for t, off in bent],
        y=[y0 + (y1 - y0) * t for t, _ in bent],
        mode="lines",
        line={"color": colour, "width": max(1.0, _WIDEST * min(1.0, abs(row["value"]))), "dash": dash},
        name=name,
        legendgroup=name,
        showlegend=shown,
        customdata=["\n".join(said)] * len(bent),
        hovertemplate="%{customdata}",
    )


def _nodes(graph: _Graph, drawn: pd.DataFrame) -> go.Scatter:
    names = list(graph.x)
    used = {*drawn["source"], *drawn["reader"]}
    inks = [INK if name in used else FAINT for name in names]
    return go.Scatter(
        x=[graph.x[name] for name in names],
        y=[graph.y[name] for name in names],
        mode="markers+text",
        text=names,
        textfont={"size": 12, "color": inks},
        marker={"symbol": "square", "size": 46, "color": PAPER, "line": {"width": 1.5, "color": inks}},
        hoverinfo="skip",
        showlegend=False,
    )
