import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from scipy import stats

from mechdistill.plots import (
    FIGURES,
    Drawing,
    copy_excess_figure,
    copying_figure,
    drawings,
    head_dynamics_figure,
    routing_figure,
)
from mechdistill.tables import (
    FIRST,
    INDUCTION_SCORES,
    LATER,
    MEASURES,
    METRIC_COLUMNS,
    SECOND,
    THIRD_ON,
    Measure,
    Metric,
    metrics,
    with_arms,
)

TEACHER = "teacher:young"


def log(rows: list[tuple[str, int, int, Metric, str | None, float]]) -> pd.DataFrame:
    """arm, seed, step, metric, occurrence, value."""
    table = pd.DataFrame(
        [
            {"run": f"{a}/seed-{s}", "arm": a, "seed": s, "step": n, "tokens": 10 * n}
            | {"metric": m.name, "value": v, "bucket": None, "occurrence": o}
            for a, s, n, m, o, v in rows
        ]
    )
    return table.astype({"bucket": "Int64", "occurrence": "string"})


def named(figure: go.Figure | None, name: str) -> list[go.Scatter]:
    assert figure is not None
    return [trace for trace in figure.data if trace.name == name and trace.hoverinfo != "skip"]


def test_copying_is_shown_of_students_with_what_no_matching_reaches() -> None:
    rows = [
        (arm, seed, step, metric, occurrence, step * factor + seed)
        for arm in ("spt", "dpt", TEACHER)
        for seed in (0, 1, 2)
        for step in (0, 1, 2)
        for metric, occurrence, factor in (
            (metrics.COPY_ACCURACY, LATER, 0.1),
            (metrics.COPY_ACCURACY, FIRST, 9.0),
            (metrics.COPY_EXCESS, LATER, 0.5),
            (metrics.NO_MATCHING, LATER, 0.0),
        )
    ]
    figure = copying_figure(with_arms(log(rows), ["spt", "dpt", TEACHER]))
    accuracy, excess = named(figure, "dpt")
    assert list(accuracy.x) == list(excess.x) == [0, 10, 20]
    assert list(accuracy.y) == pytest.approx([1, 1.1, 1.2])
    assert list(excess.y) == pytest.approx([1, 1.5, 2])
    assert [list(trace.y) for trace in named(figure, "no matching")] == [[0, 0]]
    assert figure is not None
    assert TEACHER not in {trace.name for trace in figure.data}
    assert copying_figure(log([("spt", 0, 0, metrics.LOSS, None, 1.0)])) is None


def test_every_world_has_its_own_level_of_no_matching() -> None:
    rows = [
        (arm, 0, step, metric, LATER, level if metric == metrics.NO_MATCHING else 0.9)
        for arm, level in (("a", 0.5), ("b", 0.5), ("c", 0.25))
        for step in (0, 1)
        for metric in (metrics.COPY_ACCURACY, metrics.COPY_EXCESS, metrics.NO_MATCHING)
    ]
    figure = copying_figure(log(rows))
    assert [list(trace.y) for trace in named(figure, "no matching, a, b")] == [[0.5, 0.5]]
    assert [list(trace.y) for trace in named(figure, "no matching, c")] == [[0.25, 0.25]]


def scores(best: dict[str, tuple[int, int]], steps: tuple[int, ...] = (0, 1, 2)) -> pd.DataFrame:
    """Two layers of two heads; the best head of each score rises to .9 at the last step, a rival leads before."""
    rows = [
        {"run": f"spt/seed-{seed}", "arm": "spt", "seed": seed, "step": step, "tokens": 10 * step, "metric": score}
        | {"layer": layer, "head": head, "source_layer": None, "source_head": None, "chance": 0.1, "null_mean": 0.05}
        | {"value": 0.45 * step if (layer, head) == place else 0.6 if step == 1 else 0.0}
        for seed in (0, 1)
        for step in steps
        for score, place in best.items()
        for layer in (0, 1)
        for head in (0, 1)
    ]
    ints = dict.fromkeys(("layer", "head", "source_layer", "source_head"), "Int64")
    return pd.DataFrame(rows).astype(ints)


def test_the_best_heads_are_those_of_the_last_step() -> None:
    table = scores({"trigger-lookup": (1, 0), "previous-token-after-trigger": (0, 1), "duplicate-token": (0, 0)})
    figure = head_dynamics_figure(table)
    for score, head in (("trigger-lookup", "L1H0"), ("previous-token-after-trigger", "L0H1")):
        (line,) = [trace for trace in named(figure, f"best head, {score}") if trace.mode == "lines+markers"]
        assert list(line.y) == pytest.approx([0, 0.45, 0.9]), "not the head that led at step 1"
        assert line.text[0] == f"spt, {head}"
    assert {tuple(trace.y) for trace in named(figure, "null of these heads")} == {(0.05, 0.05, 0.05)}
    assert head_dynamics_figure(scores({"trigger-lookup": (1, 0)}, steps=(2,))) is None
    short = head_dynamics_figure(table[(table["seed"] == 0) | (table["step"] < 2)])
    assert {tuple(trace.x) for trace in named(short, "null of these heads")} == {(0, 10)}, "as far as all runs go"


def test_copy_excess_has_a_dot_a_seed_and_the_interval_of_their_mean() -> None:
    values = {"spt": [0.1, 0.3, 0.2, 0.6], "dpt": [1.0, 2.0]}
    rows = [
        (arm, seed, step, metrics.COPY_EXCESS, occurrence, value + (99 if step < 8 else i))
        for arm, of_arm in values.items()
        for seed, value in enumerate(of_arm)
        for step in (4, 8)
        for i, occurrence in enumerate((FIRST, SECOND, THIRD_ON))
    ]
    figure = copy_excess_figure(log(rows))
    for i, mean in enumerate(named(figure, "spt")):
        assert mean.y[0] == pytest.approx(0.3 + i)
        low, high = stats.t.interval(0.95, 3, 0.3, stats.sem(values["spt"]))
        assert mean.error_y.array[0] == pytest.approx((high - low) / 2)
    assert [trace.error_y.array[0] for trace in named(figure, "dpt")] == [0, 0, 0], "two seeds have no interval"
    assert figure is not None
    dots = [list(trace.y) for trace in figure.data if trace.name is None and trace.mode == "markers"]
    assert sorted(map(tuple, dots))[0] == pytest.approx((0.1, 0.3, 0.2, 0.6))
    assert copy_excess_figure(log([("spt", 0, 0, metrics.LOSS, None, 1.0)])) is None


def test_routing_stands_against_a_random_choice() -> None:
    """10 of 100 positions can be copied, 20 are routed, 8 are both."""
    about = (
        (metrics.ROUTED, None, 0.2),
        (metrics.ROUTING_PRECISION, None, 8 / 20),
        (metrics.ROUTING_RECALL, None, 8 / 10),
        (metrics.TEACHER_COPY_MASS, LATER, 0.7),
    )
    table = log([("routed", 0, 3, *one) for one in about] + [("spt", 0, 3, metrics.LOSS, None, 1.0)])
    figure = routing_figure(table)
    assert [(t.x[0], t.y[0]) for t in named(figure, "routed")] == [(0.7, 0.4), (0.7, 0.8)]
    assert [t.y[0] for t in named(figure, "a random choice")] == pytest.approx([0.1, 0.2])
    found = (metrics.ROUTING_PRECISION, metrics.ROUTING_RECALL)
    missing = [("blind", 0, 3, metric, where, 0.0 if metric in found else value) for metric, where, value in about]
    both = routing_figure(pd.concat([table, log(missing)]))
    assert list(named(both, "a random choice")[0].y) == pytest.approx([0.1, 0.1]), "of one world"
    assert routing_figure(table[table["arm"] == "spt"]) is None


def test_every_measure_is_drawn_and_so_is_what_a_user_adds(own_definitions: None) -> None:
    before = [drawing.name for drawing in drawings()]
    assert before == list(FIGURES), "ours draw all of ours"
    assert set(MEASURES) <= {name for drawing in drawings() for name in drawing.tables}
    mine = Measure("mine", METRIC_COLUMNS, question="What is <mine>?", compute=lambda subject: pd.DataFrame())
    MEASURES.add(mine)
    FIGURES.add(
        Drawing("my-figure", "Mine", (INDUCTION_SCORES.name,), lambda table: go.Figure(layout_title=len(table)))
    )
    assert [drawing.name for drawing in drawings()] == [*before, "my-figure", "mine"]
    table = log([("spt", 0, 3, metrics.LOSS, None, value) for value in (1.0, 3.0)])
    drawn = drawings()[-1].draw(table[["run", "arm", "seed", "step", "tokens", "metric", "value"]])
    assert drawn is not None
    assert np.allclose(drawn.data[0].y, 2)
    assert drawn.layout.title.text == "What is &lt;mine&gt;?"
