"""What knocking out each head and each set costs, twins side by side, sets against the range of their controls."""

from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import Head, targets
from mechdistill.circuits.ablation import FULL, PATTERN_PRESERVING
from mechdistill.plots._lanes import BAND_LABEL, Lane, ablation_label, band, bars, marks
from mechdistill.plots._style import page, styled
from mechdistill.plots._twins import beside, clear_empty
from mechdistill.tables import last_step, title
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA, SELF_REPAIR, Metric

_LINE = 13  # pixels of a bar with its place
_APART = 0.01  # nats
_ROOM = 0.8  # of a target's place on the axis, for its bars
_FEW = {targets.PAIR.name, *(target.name for target in targets.TOP)}  # by the primary ablation alone

_HELD = PATTERN_PRESERVING.label
_SUM = "sum of the set's heads alone"


def ablation_figure(table: pd.DataFrame) -> go.Figure:
    """An `ablate` table as bars: rise in copy loss at occurrence >= 2, nats, one panel a run, on one scale.

    Below the single heads stand the sets of the copy circuit, and, by the primary ablation alone, the strongest heads
    and pairs; pairs of one run only, since each run has others. A diamond is the same knockout with all patterns held,
    where that makes a difference; a tick is what the heads of a set cost alone, added up, so that what lies between it
    and the end of the bar is self-repair. Behind the bars of each half lies the band of its controls, from the least to
    the most harmful draw of any kind: a bar that does not leave its band shows nothing. A line spans several draws of a
    bar. Of several checkpoints, the last of each run is shown.
    """
    copying = COPY_LOSS_DELTA.name in set(table["metric"])
    shown = COPY_LOSS_DELTA if copying else BIGRAM_KL_DELTA
    rows = last_step(table[table["bucket"].isna()])
    ablations = list(dict.fromkeys(rows["ablation"]))
    parts = _parts(rows, ablations, shown)
    places = _places(parts, ablations)
    runs, columns = beside(rows)
    step_of = dict(zip(rows["run"], rows["step"], strict=True))
    titles = [f"{run} @{step_of[run]}" if run else "" for run in runs]
    pixels = (8 + _LINE * len(ablations)) * places.size
    made = page(titles, columns, 24 + round(pixels), horizontal_spacing=0.03)
    figure, named = made.figure, set[str]()
    for run, place in zip(runs, made.places, strict=True):
        of_run = _Parts(*(part[part["run"] == run] for part in parts))
        for ablation in ablations:
            at = {label: here[ablation] for label, here in places.lanes.items() if ablation in here}
            lane = Lane(figure, place, at, places.lane, ablation)
            mine = _Parts(*(part[part["ablation"] == ablation] for part in of_run))
            if len(mine.bands):
                band(lane, mine.bands, legend=BAND_LABEL not in named)
                named.add(BAND_LABEL)
            if len(mine.bars):
                bars(lane, mine.bars, legend=lane.label not in named)
                named.add(lane.label)
            for label, symbol, marked in ((_HELD, "diamond-open", mine.held), (_SUM, "line-ns", _sums(mine))):
                if len(marked):
                    marks(lane, marked, label, symbol, legend=label not in named)
                    named.add(label)
        figure.update_yaxes(
            tickvals=list(places.centres.values()),
            ticktext=list(places.centres),
            range=[-0.1, places.size + 0.1],
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
    if BAND_LABEL in named:
        reading += "The grey band is what as much damage elsewhere costs: a set matters if its bar leaves the band. "
    if _HELD in named:
        reading += f"Where a bar has no diamond, holding the patterns changes it by less than {_APART:g} nats. "
    if _SUM in named:
        reading += (
            "A bar that goes beyond its tick: heads that stand in for each other; short of it: that need each other. "
        )
    legend = [
        *(ablation_label(name) for name in ablations),
        *(name for name in (_HELD, _SUM, BAND_LABEL) if name in named),
    ]
    return styled(made, f"Rise of the {loss} when heads are knocked out", reading.strip(), legend=legend)


class _Parts(NamedTuple):
    """What is drawn of each lane."""

    bars: pd.DataFrame
    held: pd.DataFrame
    bands: pd.DataFrame
    repair: pd.DataFrame


class _Places(NamedTuple):
    """Where on the axis each thing that is knocked out has its place, from the top down."""

    lanes: dict[str, dict[str, float]]
    """By its label and the ablation: the middle of a bar."""
    centres: dict[str, float]
    lane: float
    """How wide a bar's is."""
    size: float
    """Of the whole axis; a place with all ablations is 1."""


def _parts(rows: pd.DataFrame, ablations: list[str], shown: Metric) -> _Parts:
    left_out = rows["what"].isin(_FEW) & ~rows["ablation"].isin(ablations[:1])
    if rows["run"].nunique() > 1:
        left_out |= rows["what"] == targets.PAIR.name
    rows = rows[~left_out]
    rows = rows.assign(place=[_label(row) for row in rows.to_dict("records")])
    full, control = rows["mode"] == FULL.name, rows["control"].fillna(False).astype(bool)
    repair = rows[(rows["metric"] == SELF_REPAIR.name) & full & (shown is COPY_LOSS_DELTA)]
    is_shown = rows["metric"] == shown.name
    whole = rows[is_shown & full & ~control]
    return _Parts(whole, _apart(rows[is_shown & ~full & ~control], whole), rows[is_shown & full & control], repair)


def _places(parts: _Parts, ablations: list[str]) -> _Places:
    bars = parts.bars
    labels = list(dict.fromkeys(bars[bars["what"] == targets.HEAD.name]["place"]))
    labels += dict.fromkeys(bars[bars["what"] == targets.PAIR.name]["place"])
    labels += [label for label in targets.LABELS.values() if label in {*bars["place"], *parts.bands["place"]}]
    labels += [label for label in dict.fromkeys(bars["place"]) if label not in labels]
    few = {*bars[bars["what"].isin(_FEW)]["place"]}
    lane, end = _ROOM / max(len(ablations), 1), 0.0
    lanes: dict[str, dict[str, float]] = {}
    centres: dict[str, float] = {}
    for label in reversed(labels):
        here = ablations[:1] if label in few else ablations
        width = lane * len(here) + 1 - _ROOM
        top = end + width - (1 - _ROOM) / 2
        lanes[label] = {ablation: top - (i + 0.5) * lane for i, ablation in enumerate(here)}
        centres[label] = end + width / 2
        end += width
    return _Places(lanes, dict(reversed(centres.items())), lane, end)


def _apart(held: pd.DataFrame, bars: pd.DataFrame) -> pd.DataFrame:
    """Of the rows with patterns held, those that lie apart from the end of the bar, as of the last layer none does."""
    keys = ["run", "place", "ablation"]
    both = held.merge(bars[[*keys, "value"]].drop_duplicates(keys), on=keys, suffixes=("", "_full"))
    return both[(both["value"] - both["value_full"]).abs() > _APART]


def _sums(parts: _Parts) -> pd.DataFrame:
    """What the heads of each set cost alone, added up, for sets of several."""
    repair = parts.repair[parts.repair["heads"].str.contains(" ")]
    keys = ["place", "heads", "run"]
    both = parts.bars.merge(repair[[*keys, "value"]], on=keys, suffixes=("", "_repair"))
    return both.assign(
        value=both["value"] - both["value_repair"],
        said=[f"self-repair {repair:.3f} nats" for repair in both["value_repair"]],
    )


def _label(row: dict[Any, Any]) -> str:
    if row["what"] == targets.HEAD.name:
        return str(Head(row["layer"], row["head"]))
    if row["what"] == targets.PAIR.name:
        return " + ".join(str(row["heads"]).split())
    # a control is named after its half, with a colon
    half = str(row["what"]).partition(": ")[0]
    return targets.LABELS.get(half, half)
