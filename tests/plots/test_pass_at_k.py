import pandas as pd
import pytest

from mechdistill.plots import pass_at_k_figure
from mechdistill.tables import PASS_AT_K, frame, with_arms, with_run


def run(arm: str, seed: int, level: float, best: float) -> pd.DataFrame:
    def row(metric: str, value: float, k: int, temperature: float | None, *, exact: bool = True):
        return {"metric": metric, "value": value, "task": "chains", "k": k, "temperature": temperature, "exact": exact}

    rows = [row("pass-at-k", level * k / 16 / t, k, t) for k in (1, 4, 16) for t in (0.5, 1.0, 2.0)]
    rows += [row("pass-at-k-optimum", best * k / 16, k, None) for k in (1, 4, 16)]
    rows += [row("pass-at-k", 0.99, k, 1.0, exact=False) for k in (1, 4, 16)]
    return with_run(frame(PASS_AT_K, rows), run=f"{arm}/seed-{seed}", arm=arm, seed=seed, step=8, tokens=80)


def test_lines_are_means_over_seeds_and_worlds_have_a_ceiling_each() -> None:
    parts = [run("spt", 0, 0.2, 0.5), run("spt", 1, 0.4, 0.5), run("dpt-90", 0, 0.3, 0.5), run("scarce", 0, 0.1, 0.8)]
    parts.append(run("teacher:t", 0, 0.45, 0.5))
    table = with_arms(pd.concat(parts, ignore_index=True), ["spt", "dpt-90", "scarce", "teacher:t"])
    figure = pass_at_k_figure(table)
    named = {(trace.name, trace.xaxis): trace for trace in figure.data if trace.mode == "lines+markers"}
    assert {name for name, _ in named} == {"spt", "dpt-90", "scarce"}, "teachers are no arm"
    left, right = named["spt", "x"], named["spt", "x2"]
    assert list(left.x) == [1, 4, 16]
    assert list(left.y) == pytest.approx([0.3 / 16, 0.3 / 4, 0.3]), "exact, at temperature 1"
    assert list(right.x) == pytest.approx([0.6 / 16, 0.3 / 16, 0.15 / 16])
    assert list(right.y) == pytest.approx([0.6, 0.3, 0.15])
    assert [size > 10 for size in right.marker.size] == [False, True, False]
    (band,) = [trace for trace in figure.data if trace.fill == "toself"]
    assert max(band.y) == pytest.approx(0.4)
    ceilings = {trace.name: list(trace.y) for trace in figure.data if trace.line.dash == "dash" and trace.xaxis == "x"}
    assert ceilings["best possible, spt, dpt-90"][-1] == 0.5
    assert ceilings["best possible, scarce"][-1] == 0.8
