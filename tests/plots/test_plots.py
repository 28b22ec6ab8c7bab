import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mechdistill as md
from mechdistill.plots import (
    ablation_figure,
    arm_colours,
    comparison_figure,
    induction_scores_figure,
    row_curves_figure,
    to_html,
)
from mechdistill.runs import Experiment
from mechdistill.stats import compare_formation, compare_twins

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--no-first-run"
)


@pytest.fixture(scope="module")
def scores(trained: Experiment) -> pd.DataFrame:
    return md.induction_scores(trained, "all")


def test_every_value_of_the_table_is_in_the_heat_maps(scores: pd.DataFrame) -> None:
    figure = induction_scores_figure(scores)
    metrics, runs = scores["metric"].nunique(), scores["run"].nunique()
    assert len(figure.data) == metrics * runs
    assert sum(bool(trace.visible) for trace in figure.data) == runs
    steps = sorted(scores.loc[scores["run"] == "spt/seed-0", "step"].unique())
    assert [frame.name for frame in figure.frames] == [str(step) for step in steps]
    order = list(dict.fromkeys(scores["metric"]))
    for frame, step in zip(figure.frames, steps, strict=True):
        at = scores[(scores["run"] == "spt/seed-0") & (scores["step"] == step)]
        for i, metric in enumerate(order):
            z = frame.data[i * runs].z
            for row in at[at["metric"] == metric].to_dict("records"):
                assert z[row["layer"]][row["head"]] == row["value"]


def test_a_run_that_stopped_early_shows_its_last_checkpoint(scores: pd.DataFrame) -> None:
    figure = induction_scores_figure(scores)
    teacher = list(dict.fromkeys(scores["run"])).index("teachers/young/seed-0")
    own = scores[(scores["run"] == "teachers/young/seed-0") & (scores["metric"] == scores["metric"].iloc[0])]
    last = own[own["step"] == own["step"].max()]
    z = figure.frames[-1].data[teacher].z
    assert [z[r["layer"]][r["head"]] for r in last.to_dict("records")] == last["value"].tolist()


def test_one_checkpoint_needs_no_slider(trained: Experiment) -> None:
    figure = induction_scores_figure(md.induction_scores(trained))
    assert not figure.frames
    assert not figure.layout.sliders


def test_the_forest_plot_has_every_difference_and_its_interval() -> None:
    values = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "metric": metric, "value": shift * seed**2 + len(metric)}
            for arm, shift in (("spt", 1.0), ("a", 1.5), ("b", -2.0))
            for seed in range(4 if arm != "b" else 2)
            for metric in ("kl", "copy-excess")
        ]
    )
    table = compare_twins(values, "spt")
    figure = comparison_figure(table)
    assert len(figure.data) == len(table) == 4
    found = {(trace.name, round(trace.x[0], 9)) for trace in figure.data}
    assert found == {(row["arm"], round(row["difference"], 9)) for row in table.to_dict("records")}
    for trace in figure.data:
        row = table[(table["arm"] == trace.name)].iloc[0]
        open_circle = trace.name == "b"  # two pairs: no interval
        assert (trace.marker.symbol == "circle-open") == open_circle
        if not open_circle:
            assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row["high"])
            assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(row["low"])


def test_the_forest_plot_says_that_nothing_formed() -> None:
    runs = [{"arm": arm, "seed": s, "step": 8, "formed": False, "last": 8} for arm in ("spt", "a") for s in range(3)]
    (trace,) = comparison_figure(compare_formation(pd.DataFrame(runs), "spt", ["a"], 0.7)).data
    assert (trace.mode, trace.text) == ("text", ("nothing formed in either arm by 8 tokens",))
    for text in ("no difference known", "accuracy 0.700 on, followed up to 8 tokens", "3 of 3, of the baseline 3"):
        assert text in trace.hovertemplate


def test_arms_keep_their_colours() -> None:
    colours = arm_colours(["dpt-90", "spt", "mine", "other", "teacher:x"])
    assert colours["spt"] == arm_colours(["spt"])["spt"]
    assert len(set(colours.values())) == 5
    assert len(arm_colours([f"arm{i}" for i in range(30)])) == 30


def test_row_curves_average_buckets_over_positions(trained: Experiment) -> None:
    table = md.row_curves(trained)
    figure = row_curves_figure(table)
    spt = next(trace for trace in figure.data if trace.name == "spt")
    rows = table[(table["arm"] == "spt") & (table["bucket"] == 0)]
    wide = rows.pivot(index=["tokens", "row"], columns="metric", values="value").reset_index()
    wide["total"] = wide["kl"] * wide["positions"]
    expected = wide.groupby("tokens")["total"].sum() / wide.groupby("tokens")["positions"].sum()
    assert list(spt.x) == list(expected.index)
    assert list(spt.y) == pytest.approx(list(expected))


def test_several_seeds_get_a_mean_line(trained: Experiment) -> None:
    table = md.row_curves(trained.run("spt/seed-0"))
    other = table.assign(seed=1, run="spt/seed-1", value=table["value"] * 3)
    figure = row_curves_figure(pd.concat([table, other]))
    lines = [trace for trace in figure.data if trace.legendgroup == "spt" and trace.mode == "lines"][:3]
    assert [line.line.width for line in lines] == [1, 1, 2.5]
    assert list(lines[2].y) == pytest.approx([2 * value for value in lines[0].y])


def test_ablation_bars_show_means_and_ranges_of_controls(trained: Experiment) -> None:
    table = md.ablate(trained.run("spt/seed-0"))
    circuit = table[table["what"] == "head"].assign(what="lookup", heads="L1H0")
    control = circuit.assign(what="lookup: removed subspace", control=True)
    both = pd.concat([table, circuit.head(1), control.head(1), control.head(1).assign(value=9.0)])
    figure = ablation_figure(both)
    bars = next(trace for trace in figure.data if trace.name == "mean ablation")
    at = list(bars.y).index("… as much lost at random")
    first = control.head(1)["value"].item()
    assert bars.x[at] == pytest.approx((first + 9) / 2)
    assert bars.error_x.array[at] == pytest.approx((9 - first) / 2)


@pytest.fixture
def page(scores: pd.DataFrame, tmp_path: Path) -> Iterator[Any]:
    """The heat maps in a real browser that may reach nothing but the file."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    path = tmp_path / "scores.html"
    path.write_text(to_html(induction_scores_figure(scores)), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1300, "height": 800})
        page.outside, page.problems = [], []
        page.on(
            "request",
            lambda r: page.outside.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
        )
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_selector(".slider-group")
        yield page
        browser.close()


def test_the_page_works_offline_in_a_real_browser(page: Any, scores: pd.DataFrame) -> None:
    steps = sorted(scores["step"].unique())
    z_of_first = "document.querySelector('.js-plotly-plot').data[0].z.bdata"
    assert page.text_content(".slider-label") == f"checkpoint: step {steps[-1]}"
    before = page.evaluate(z_of_first)
    box = page.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    page.wait_for_function(f"() => document.querySelector('.slider-label').textContent.endsWith('step {steps[0]}')")
    page.wait_for_function(f"() => {z_of_first} !== '{before}'")
    visible = "() => document.querySelector('.js-plotly-plot').data.map(t => t.visible)"
    page.locator(".updatemenu-header").click()
    page.locator(".updatemenu-dropdown-button").nth(1).click()
    page.wait_for_function("() => document.querySelector('.js-plotly-plot').data[0].visible === true")
    chosen = page.evaluate(visible)
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.wait_for_function(f"() => {z_of_first} === '{before}'")
    assert page.evaluate(visible) == chosen, "moving the slider undid the choice of score"
    assert page.outside == []
    assert page.problems == []
