"""What routing picks: how well it finds the positions that can be copied, by how good the teacher is there."""

import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._colours import FAINT
from mechdistill.plots._style import page, styled
from mechdistill.stats import students
from mechdistill.tables import LATER, Metric, Occurrence, last_step, metrics, pick, title


def routing_figure(table: pd.DataFrame) -> go.Figure | None:
    """The inline `metrics` of runs that route, stacked: precision and recall of routing, both in [0, 1], against the
    teacher's mean probability of the right target at occurrence >= 2, a point a run.

    Dashes are what a random choice of as many positions gets: the share of copyable positions, and the routed
    fraction. Of each run, the last evaluation that has the metric. None where nothing routes.
    """
    runs = _runs(students(table))
    if runs.empty:
        return None
    arms = looks(runs)
    made = page(["Of what is routed, how much can be copied", "Of what can be copied, how much is routed"], 2, 290)
    figure = made.figure
    shown = (
        (metrics.ROUTING_PRECISION, runs["copyable"]),
        (metrics.ROUTING_RECALL, runs[metrics.ROUTED.name]),
    )
    for (metric, chance), place in zip(shown, made.places, strict=True):
        first = place == made.places[0]
        figure.add_trace(
            go.Scatter(
                x=runs[metrics.TEACHER_COPY_MASS.name],
                y=chance,
                mode="markers",
                marker={"color": FAINT, "symbol": "line-ew-open", "size": 16, "line": {"width": 2}},
                text=[f"{run}, random choice" for run in runs["run"]],
                hovertemplate="%{text}\n%{y:.3f}",
                name="a random choice",
                legendrank=1001,
                legendgroup="a random choice",
                showlegend=first,
            ),
            **place,
        )
        for arm, look in arms.items():
            part = runs[runs["arm"] == arm]
            figure.add_trace(
                go.Scatter(
                    x=part[metrics.TEACHER_COPY_MASS.name],
                    y=part[metric.name],
                    mode="markers",
                    marker={"color": look.colour, "symbol": look.symbol, "size": 11},
                    text=list(part["run"]),
                    hovertemplate="%{text}\nteacher's mass %{x:.3f}\n%{y:.3f}",
                    name=arm,
                    legendgroup=arm,
                    showlegend=first,
                ),
                **place,
            )
        figure.update_yaxes(title_text=title(metric), range=[-0.03, 1.03], **place)
        figure.update_xaxes(title_text=title(metrics.TEACHER_COPY_MASS, LATER), **place)
    return styled(
        made,
        "What routing picks, by how sure the teacher is of what can be copied",
        "Higher is better; at its dash a run routes no better than a random choice of as many positions. One mark a "
        "run.",
        legend=[*arms, "a random choice"],
    )


def _runs(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each run that routes: its teacher's mass, what it routes, and the share of positions to copy."""
    known: tuple[tuple[Metric, Occurrence | None], ...] = (
        (metrics.ROUTED, None),
        (metrics.ROUTING_PRECISION, None),
        (metrics.ROUTING_RECALL, None),
        (metrics.TEACHER_COPY_MASS, LATER),
    )
    parts = [last_step(pick(table, metric, where)).set_index(["run", "arm"]) for metric, where in known]
    columns = {metric.name: part["value"] for (metric, _), part in zip(known, parts, strict=True)}
    runs = pd.DataFrame(columns).dropna().reset_index()
    runs.attrs = table.attrs
    # precision = both / routed and recall = both / copyable, so that both shares of all positions follow
    both = runs[metrics.ROUTING_PRECISION.name] * runs[metrics.ROUTED.name]
    copyable = both / runs[metrics.ROUTING_RECALL.name]
    return runs.assign(copyable=copyable.fillna(copyable.mean()))  # of a run that routes none of them, from its twins
