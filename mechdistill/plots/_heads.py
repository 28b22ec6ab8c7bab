"""Head scores as heat maps: layer × head, a panel for each run, a slider over checkpoints, a menu of scores.

A score of head pairs is drawn as later head × earlier head, on the same page and under the same menu.
"""

from collections.abc import Hashable
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go

from mechdistill.circuits import SCORES, ranking
from mechdistill.plots._cells import cells, heatmap, numbers, scale_of
from mechdistill.plots._colours import BUTTON, BUTTON_INK, FAINT
from mechdistill.plots._slider import slider
from mechdistill.plots._style import page, styled
from mechdistill.plots._twins import beside, clear_empty
from mechdistill.tables import Metric, metric

_PANEL = 200


class _Map(NamedTuple):
    """One heat map: a run's score."""

    run: str
    score: str


def induction_scores_figure(table: pd.DataFrame) -> go.Figure:
    """An `induction-scores` table as heat maps, a panel a run, twins side by side.

    The menu chooses the score, the slider the checkpoint; a run without that checkpoint shows its latest before it.
    Hovering gives the value with its chance level, null and untrained twin. Colours span the score's range; a signed
    score is pale at 0. Numbers stand in the cells where there is room for them.
    """
    table = table[table["head"].notna()]
    order, columns = beside(table)
    runs = [run for run in order if run]
    names = list(dict.fromkeys(table["metric"]))
    shown = first if (first := ranking(set(names)).name) in names else names[0]
    steps = sorted({int(step) for step in table["step"]})
    by_map: dict[Hashable, pd.DataFrame] = dict(iter(table.groupby(["run", "metric", "step"], sort=False)))
    moving = bool((table.groupby("run")["step"].nunique() > 1).any())
    own_steps = {str(run): sorted(set(part["step"])) for run, part in table.groupby("run")}
    scales = {str(name): scale_of(_score(str(name)), part["value"]) for name, part in table.groupby("metric")}

    titles = [_title(run, own_steps, moving) if run else "" for run in order]
    made = page(titles, columns, _PANEL, horizontal_spacing=0.07 if columns < 4 else 0.02)
    figure, place = made.figure, dict(zip(order, made.places, strict=True))
    maps = [_Map(run, name) for name in names for run in runs]

    def traces(one: _Map, step: int) -> list[go.Heatmap | go.Scatter]:
        """The cells, and the numbers in them."""
        latest = max((s for s in own_steps[one.run] if s <= step), default=own_steps[one.run][0])
        part = by_map.get((one.run, one.score, latest))
        visible = one.score == shown
        if part is None:
            return [go.Heatmap(visible=visible), go.Scatter(visible=visible)]
        drawn, scale = cells(part), scales[one.score]
        unit, legend = _score(one.score).unit or "score", one.run == runs[0]
        map_ = heatmap(drawn, scale, unit, _PANEL, legend=legend, visible=visible)
        return [map_, numbers(drawn, scale, columns, visible)]

    for one in maps:
        for trace in traces(one, steps[-1]):
            figure.add_trace(trace, **place[one.run])
    bare = {"showgrid": False, "type": "category", "showline": False, "ticks": ""}
    figure.update_xaxes(bare).update_yaxes({**bare, "autorange": "reversed"})
    for at in made.places:
        if columns > 3 and at["col"] > 1:  # no room beside the numbers, and twins have the same rows
            figure.update_yaxes(showticklabels=False, **at)
    clear_empty(figure, order, made.places)
    figure.update_layout(updatemenus=[_menu(sorted(names, key=lambda name: name != shown), maps, made.title_lines)])
    if moving:
        # frames carry values only, so that a frame never undoes the menu's choice of score
        figure.frames = [
            go.Frame(
                name=str(step),
                data=[_values(trace) for one in maps for trace in traces(one, step)],
                traces=list(range(2 * len(maps))),
            )
            for step in steps
        ]
        figure.update_layout(sliders=[slider(table, steps)])
    reading = "Rows are layers, columns heads; darker on a light page, lighter on a dark one: more. "
    reading += "A head does what a score names where it is far above its chance level and null, which hovering gives."
    heading = "What each head does" + ", at the checkpoint that the slider chooses" * moving
    return styled(made, heading, reading, above=44, below=100 * moving)


def _values(trace: go.Heatmap | go.Scatter) -> dict[str, Any]:
    whole = trace.to_plotly_json()
    kept = {key: whole[key] for key in ("type", "z", "text") if key in whole}
    return kept | ({"textfont": {"color": whole["textfont"]["color"]}} if "textfont" in whole else {})


def _title(run: str, own_steps: dict[str, list[int]], moving: bool) -> str:
    """A run, and where it stands: at its step, or, under a slider, where it ends before others do."""
    last, longest = own_steps[run][-1], max(steps[-1] for steps in own_steps.values())
    if moving:
        return run if last == longest else f"{run} to @{last}"
    return f"{run} @{last}"


def _score(name: str) -> Metric:
    """The score of a name; of a user's file that is not loaded, only the name is known."""
    return SCORES[name] if name in SCORES else metric(name)


def _menu(names: list[str], maps: list[_Map], title_lines: int) -> dict[str, object]:
    return {
        "buttons": [
            {
                "label": name,
                "method": "restyle",
                # a heat map and its numbers
                "args": [{"visible": [one.score == name for one in maps for _ in range(2)]}],
            }
            for name in names
        ],
        "x": 1,
        "xanchor": "right",
        "y": 1,
        "yanchor": "bottom",
        "pad": {"b": 18 * title_lines + 14},
        "bgcolor": BUTTON,
        "bordercolor": FAINT,
        "font": {"color": BUTTON_INK, "size": 13},
    }
