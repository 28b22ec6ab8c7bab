"""How likely one of k samples is right, arm beside arm, and what is given up for it over temperatures."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look, looks
from mechdistill.plots._colours import FAINT
from mechdistill.plots._seeds import curve
from mechdistill.plots._style import page, styled
from mechdistill.stats import students
from mechdistill.tables import TEMPERATURE, last_step, metrics

_FEW, _MANY = 1, 16  # k of the frontier
_POINT = "pass@%{x}: %{y:.4g}"
_TASKS = {"hidden-target": "Hidden target", "chains": "Chains", "multi-hop": "Lookups alone"}


def pass_at_k_figure(table: pd.DataFrame) -> go.Figure:
    """A `pass-at-k` table as two panels a task, of the students' last checkpoints and what is exact.

    Left: pass@k at temperature 1 against k on a log scale, with the best possible. Right: pass@16 against pass@1, a
    mark for each temperature, the larger one for temperature 1. One line an arm;
    with several seeds their mean, at the left in a band from the lowest to the highest, at the right over faint lines
    of single seeds. Both in [0, 1].
    """
    rows = students(table)
    rows = last_step(rows[rows["exact"]])
    arms = looks(rows)
    tasks = [str(task) for task in dict.fromkeys(rows["task"])]
    titles = [f"{_TASKS.get(task, task)}: {what}" for task in tasks for what in ("one of k right", "over temperatures")]
    made = page(titles, 2, 260, horizontal_spacing=0.11)
    figure, places = made.figure, iter(made.places)
    levels: list[str] = []
    for task in tasks:
        of_task = rows[rows["task"] == task]
        passed = of_task[of_task["metric"] == metrics.PASS_AT_K.name]
        left, right = next(places), next(places)
        levels = _possible(figure, of_task, left, legend=task == tasks[0])
        for arm, look in arms.items():
            mine = passed[passed["arm"] == arm]
            at_one, legend = mine[mine[TEMPERATURE.name] == 1], task == tasks[0]
            curve(figure, at_one, look, left, name=arm, group=arm, legend=legend, along="k", point=_POINT, marks=0)
            _frontier(figure, mine, look, right, arm)
        ticks = [k for k in sorted(set(passed["k"].astype(int))) if k.bit_length() % 2]
        figure.update_xaxes(title_text="k, samples", type="log", tickvals=ticks, **left)
        figure.update_yaxes(title_text=f"{metrics.PASS_AT_K.label}, temperature 1", range=[0, 1.03], **left)
        figure.update_xaxes(title_text=f"pass@{_FEW}", rangemode="tozero", **right)
        figure.update_yaxes(title_text=f"pass@{_MANY}", rangemode="tozero", **right)
    runs = int(rows.groupby("arm")["run"].nunique().max())
    seeds = (
        f" Lines are means over seeds; bands go from the lowest to the highest of {runs}, faint lines are single seeds."
        if runs > 1
        else ""
    )
    return styled(
        made,
        "How likely one of k samples is right",
        "Higher is better; dashed: the best possible. At the right a mark is a temperature, the large one is 1, colder "
        f"ones usually lie to its right; a line above another has more at the same pass@{_FEW}." + seeds,
        legend=[*arms, *levels],
    )


def _frontier(figure: go.Figure, data: pd.DataFrame, look: Look, place: dict[str, Any], arm: str) -> None:
    chosen = data[data["k"].isin([_FEW, _MANY])]
    wide = chosen.pivot(index=["run", TEMPERATURE.name], columns="k", values="value").dropna()
    if wide.empty:
        return
    runs = list(dict.fromkeys(wide.index.get_level_values("run")))
    for run in runs if len(runs) > 1 else []:
        one = wide.loc[run].sort_index()
        figure.add_trace(
            go.Scatter(
                x=one[_FEW],
                y=one[_MANY],
                mode="lines",
                line={"color": look.colour, "dash": look.dash, "width": 1},
                opacity=0.35,
                legendgroup=arm,
                showlegend=False,
                hoverinfo="skip",
                name=str(run),
            ),
            **place,
        )
    mean = wide.groupby(TEMPERATURE.name).mean().sort_index()
    figure.add_trace(
        go.Scatter(
            x=mean[_FEW],
            y=mean[_MANY],
            mode="lines+markers",
            line={"color": look.colour, "dash": look.dash, "width": 2.2},
            marker={
                "color": look.colour,
                "symbol": look.symbol,
                "size": [13 if temperature == 1 else 7 for temperature in mean.index],
                "opacity": 1,
                "line": {"width": 0},  # plotly would draw marks of several sizes faint and rimmed
            },
            text=[f"{arm if len(runs) > 1 else runs[0]} at temperature {temperature:g}" for temperature in mean.index],
            name=arm,
            legendgroup=arm,
            showlegend=False,
            hovertemplate=f"%{{text}}\npass@{_FEW} %{{x:.4g}}, pass@{_MANY} %{{y:.4g}}",
        ),
        **place,
    )


def _possible(figure: go.Figure, data: pd.DataFrame, place: dict[str, Any], *, legend: bool) -> list[str]:
    """The best possible pass@k of each world that arms live in; gives the names for the legend."""
    best = data[data["metric"] == metrics.PASS_AT_K_OPTIMUM.name].drop_duplicates(["arm", "k"])
    arms_at: dict[tuple[tuple[int, float], ...], list[str]] = {}
    for arm, part in best.groupby("arm", sort=False):
        line = tuple((int(k), round(float(value), 6)) for k, value in part.sort_values("k")[["k", "value"]].to_numpy())
        arms_at.setdefault(line, []).append(str(arm))
    names = ["best possible" + f", {', '.join(arms)}" * (len(arms_at) > 1) for arms in arms_at.values()]
    for line, name in zip(arms_at, names, strict=True):
        k, value = zip(*line, strict=True)
        figure.add_trace(
            go.Scatter(
                x=k,
                y=value,
                mode="lines",
                line={"color": FAINT, "dash": "dash", "width": 1.5},
                name=name,
                legendgroup=name,
                showlegend=legend,
                hovertemplate=f"{name}\npass@%{{x}}: %{{y:.4g}}",
            ),
            **place,
        )
    return names
