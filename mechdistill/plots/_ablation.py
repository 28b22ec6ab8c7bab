"""What knocking out each head and each set costs, twins side by side, sets against the range of their controls."""

from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import ABLATIONS, Head, targets
from mechdistill.plots._colours import AXIS, BAND, INK, SHADES
from mechdistill.plots._style import page, styled
from mechdistill.plots._twins import beside, clear_empty
from mechdistill.tables import last_step, title
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA

_LINE = 15  # pixels of a bar with its place
_ROOM = 0.8  # of a target's place on the axis, for its bars


def ablation_figure(table: pd.DataFrame) -> go.Figure:
    """An `ablate` table as bars: rise in copy loss at occurrence >= 2, nats, one panel a run, on one scale.

    Below the single heads stand the sets of the copy circuit. Behind the bars of each half lies the band of its
    controls, from the least to the most harmful draw of any kind: a bar that does not leave its band shows nothing. A
    line spans several draws of a bar. Of several checkpoints, the last of each run is shown.
    """
    copying = COPY_LOSS_DELTA.name in set(table["metric"])
    shown = COPY_LOSS_DELTA if copying else BIGRAM_KL_DELTA
    rows = table[(table["metric"] == shown.name) & table["bucket"].isna()]
    rows = last_step(rows)
    control = rows["control"].fillna(False).astype(bool)
    bars = rows[~control].assign(place=[_label(row) for row in rows[~control].to_dict("records")])
    # a control is named after its half, with a colon
    halves = [str(what).partition(": ")[0] for what in rows[control]["what"]]
    bands = rows[control].assign(place=[targets.LABELS.get(half, half) for half in halves])
    places = list(dict.fromkeys(bars[bars["what"] == targets.HEAD.name]["place"]))
    places += [label for label in targets.LABELS.values() if label in {*bars["place"], *bands["place"]}]
    places += [label for label in dict.fromkeys(bars["place"]) if label not in places]
    at_of = {label: float(len(places) - 1 - i) for i, label in enumerate(places)}
    ablations = list(dict.fromkeys(rows["ablation"]))
    slot = _ROOM / max(len(ablations), 1)
    runs, columns = beside(rows)
    step_of = dict(zip(rows["run"], rows["step"], strict=True))
    titles = [f"{run} @{step_of[run]}" if run else "" for run in runs]
    height = 24 + len(places) * (8 + _LINE * len(ablations))
    made = page(titles, columns, height, horizontal_spacing=0.03)
    figure, named = made.figure, set[str]()
    for run, place in zip(runs, made.places, strict=True):
        for i, ablation in enumerate(ablations):
            up = _ROOM / 2 - (i + 0.5) * slot
            lane = _Lane(figure, place, {name: at + up for name, at in at_of.items()}, slot)
            label, colour = _ablation_label(ablation), _colour(ablation)
            of_run = (bands["run"] == run) & (bands["ablation"] == ablation)
            if of_run.any():
                _band(lane, bands[of_run], legend=_BAND not in named)
                named.add(_BAND)
            of_run = (bars["run"] == run) & (bars["ablation"] == ablation)
            if of_run.any():
                _bars(lane, bars[of_run], name=label, colour=colour, legend=label not in named)
                named.add(label)
        figure.update_yaxes(
            tickvals=list(at_of.values()),
            ticktext=list(at_of),
            range=[-0.6, len(places) - 0.4],
            showgrid=False,
            showticklabels=place["col"] == 1,
            **place,
        )
        scale = {} if place == made.places[0] else {"matches": "x"}
        figure.update_xaxes(title_text=title(shown), nticks=5, zeroline=True, **scale, **place)
    clear_empty(figure, runs, made.places)
    figure.update_layout(barmode="overlay")
    loss = "copy loss (occurrence ≥ 2)" if copying else "KL to the oracle (there is nothing to copy)"
    reading = "Further right: the model needs these heads more. "
    if len(bands):
        reading += "The grey band is what as much damage elsewhere costs: a set matters if its bar leaves the band."
    legend = [*(_ablation_label(name) for name in ablations), *[_BAND] * bool(len(bands))]
    return styled(made, f"Rise of the {loss} when heads are knocked out", reading, legend=legend)


_BAND = "range of the controls"


class _Lane(NamedTuple):
    """Where the bars of one ablation lie in the panel of a run."""

    figure: go.Figure
    place: dict[str, Any]
    heights: dict[str, float]
    """On the axis, by what is knocked out."""
    width: float


def _band(lane: _Lane, part: pd.DataFrame, *, legend: bool) -> None:
    ends = part.groupby("place", sort=False)["value"].agg(["min", "max"])
    kinds = part.groupby(["place", "what"], sort=False)["value"].agg(["min", "max"])
    said = ["\n".join(_kind(what, row) for what, row in kinds.loc[label].iterrows()) for label in ends.index]
    lane.figure.add_trace(
        go.Bar(
            y=[lane.heights[label] for label in ends.index],
            x=ends["max"] - ends["min"],
            base=ends["min"],
            width=lane.width,
            orientation="h",
            marker={"color": BAND, "line": {"width": 1, "color": AXIS}},
            name=_BAND,
            legendrank=1001,
            legendgroup=_BAND,
            showlegend=legend,
            customdata=said,
            hovertemplate="%{customdata}",
        ),
        **lane.place,
    )


def _kind(what: Any, row: "pd.Series[float]") -> str:
    return f"{targets.LABELS.get(str(what), str(what)).strip()}: {row['min']:.3f} to {row['max']:.3f} nats"


def _bars(lane: _Lane, part: pd.DataFrame, *, name: str, colour: str, legend: bool) -> None:
    groups = part.groupby("place", sort=False)
    stats = groups["value"].agg(["mean", "min", "max", "size"])
    drawn = stats[["min", "max"]].where(stats["min"] < stats["max"])  # no line where there is one draw
    lane.figure.add_trace(
        go.Bar(
            y=[lane.heights[label] for label in stats.index],
            x=stats["mean"],
            width=lane.width * 0.5,  # its band stands out above and below
            orientation="h",
            name=name,
            legendgroup=name,
            showlegend=legend,
            marker={"color": colour, "line": {"width": 0}},
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
                _about(name, row)
                for row in stats.assign(heads=groups["heads"].first()).reset_index().to_dict("records")
            ],
            hovertemplate="%{customdata}",
        ),
        **lane.place,
    )


def _label(row: dict[Any, Any]) -> str:
    if row["what"] == targets.HEAD.name:
        return str(Head(row["layer"], row["head"]))
    return targets.LABELS.get(row["what"], str(row["what"]))


def _about(ablation: str, row: dict[Any, Any]) -> str:
    """A bar in words: which heads, what they cost, and the spread of what it is the mean of."""
    heads = "" if pd.isna(row["heads"]) else f" ({row['heads']})"
    draws = f", mean of {row['size']:.0f} from {row['min']:.3f} to {row['max']:.3f}" if row["size"] > 1 else ""
    return f"{ablation}\n{row['place']}{heads}\nΔ {row['mean']:.3f} nats{draws}"


def _ablation_label(name: str) -> str:
    return ABLATIONS[name].label if name in ABLATIONS else name


def _colour(name: str) -> str:
    """An ablation's shade of blue."""
    slot = ABLATIONS[name].colour if name in ABLATIONS else len(ABLATIONS)
    return SHADES[slot % len(SHADES)]
