"""In-context tasks and diversity as figures, of tables by hand."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from mechdistill.plots import diversity_figure, in_context_figure
from mechdistill.tables import DIVERSITY, IN_CONTEXT, frame, metrics, with_run


def stacked(measure: Any, of: dict[tuple[str, int], list[dict[str, Any]]]) -> pd.DataFrame:
    parts = [
        with_run(frame(measure, rows), run=f"{arm}/seed-{seed}", arm=arm, seed=seed, step=9, tokens=90)
        for (arm, seed), rows in of.items()
    ]
    return pd.concat(parts, ignore_index=True)


def named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [trace for trace in figure.data if trace.name == name]


def prompts(accuracy: float, ceiling: float = 1.0) -> list[dict[str, Any]]:
    beside = {"error": 0.01, "ceiling": ceiling, "no_context": 0.02, "no_matching": 0.5, "prompts": 9}
    places = [("copy", {"distance": d}) for d in (2, 4)] + [("copy", {"quarter": q}) for q in (0, 1)]
    places += [("needle", {"distance": 15}), ("counterfactual", {"distance": 2}), ("counterfactual", {"distance": 4})]
    rows = [
        metrics.IN_CONTEXT_ACCURACY.row(accuracy + i / 100, task=task, **where, **beside)
        for i, (task, where) in enumerate(places)
    ]
    rows += [metrics.ROW_WINS.row(0.1, task="counterfactual", distance=d, **beside) for d in (2, 4)]
    return [*rows, metrics.ICL_AGAINST_ORACLE.row(accuracy, ceiling=1.0, no_context=0.0)]


def test_prompts_stand_by_distance_and_place_with_the_needle_apart() -> None:
    table = stacked(IN_CONTEXT, {("<b>", 0): prompts(0.5), ("<b>", 1): prompts(0.7), ("spt", 0): prompts(0.3)})
    figure = in_context_figure(table)
    lines = [(list(t.x), list(t.y)) for t in named(figure, "&lt;b&gt;") if t.mode == "lines+markers"]
    assert [x for x, _ in lines] == [[2, 4], [15], [0, 1], [2, 4], [2, 4]]
    for (_, y), first in zip(lines, (0.6, 0.64, 0.62, 0.65, 0.1), strict=True):
        assert y[0] == pytest.approx(first)
    (two, *_), (one, *_) = named(figure, "&lt;b&gt;"), named(figure, "spt")
    assert list(two.error_y.array) == pytest.approx([0.1, 0.1]), "the range over seeds"
    assert list(one.error_y.array) == pytest.approx([0.01, 0.01]), "one seed has its standard error"
    assert {tuple(trace.y) for trace in named(figure, "no matching")} == {(0.5, 0.5)}
    assert "other worlds" not in figure.layout.title.subtitle.text
    apart = in_context_figure(stacked(IN_CONTEXT, {("a", 0): prompts(0.5), ("b", 0): prompts(0.5, ceiling=0.9)}))
    assert "others have other worlds" in apart.layout.title.subtitle.text.replace("<br>", " ")


def generated(validity: float) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for temperature in (1.3, 0.7, 1.0):
        about = {"sequences": 256, "temperature": temperature}
        rows += [
            metrics.VALIDITY.row(validity - temperature / 10, reference=0.99, **about),
            metrics.VALID_DISTINCT.row(temperature / 10, n=2, reference=0.2, **about),
            metrics.VALID_DISTINCT.row(0.9, n=3, reference=0.8, **about),
            metrics.ENTROPY_RATE.row(temperature, reference=1.1, **about),
            metrics.VENDI.row(10 * temperature, n=2, reference=12.0, **about),
            *(metrics.UNIQUE_CORRECT.row(k * temperature, k=k, reference=float(k), **about) for k in (1, 16)),
        ]
    return rows


def test_diversity_stands_beside_validity_along_the_temperatures() -> None:
    figure = diversity_figure(stacked(DIVERSITY, {("a", 0): generated(1.0), ("a", 1): generated(0.9)}))
    frontier, rate, vendi, unique = named(figure, "a")
    assert list(frontier.x) == pytest.approx([0.88, 0.85, 0.82]), "the coldest first"
    assert list(frontier.y) == pytest.approx([0.07, 0.1, 0.13])
    assert list(frontier.error_x.array) == pytest.approx([0.05] * 3)
    assert list(rate.y) == pytest.approx([0.7, 1, 1.3])
    assert list(vendi.y) == pytest.approx([7, 10, 13])
    assert (list(unique.x), list(unique.y)) == ([1, 16], [1, 16]), "at temperature 1 alone"
    star, *levels = named(figure, "the world itself")
    assert (list(star.x), list(star.y)) == ([0.99], [0.2])
    assert [set(level.y) for level in levels] == [{1.1}, {12.0}, {1.0, 16.0}]
