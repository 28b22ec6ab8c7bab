import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import mechdistill as md
from mechdistill.config import expand
from mechdistill.evals import describe
from mechdistill.plots import (
    ablation_figure,
    arm_colours,
    comparison_figure,
    induction_scores_figure,
    plain_figure,
    row_curves_figure,
    sandbox_figure,
    to_html,
)
from mechdistill.plots._style import FAINT, INK, SHADES
from mechdistill.plots._twins import beside
from mechdistill.runs import Experiment
from mechdistill.stats import compare_formation, compare_twins
from mechdistill.tables import MEASURES, arms_of, with_arms

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
        assert trace.marker.symbol.endswith("-open") == open_circle
        if not open_circle:
            assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row["high"])
            assert trace.x[0] - trace.error_x.arrayminus[0] == pytest.approx(row["low"])


def test_the_forest_plot_says_that_nothing_formed() -> None:
    runs = [{"arm": arm, "seed": s, "step": 8, "formed": False, "last": 8} for arm in ("spt", "a") for s in range(3)]
    (trace,) = comparison_figure(compare_formation(pd.DataFrame(runs), "spt", ["a"], 0.7)).data
    assert (trace.mode, trace.text) == ("text", ("nothing formed in either arm by 8 tokens",))
    for text in ("no difference known", "accuracy 0.700 on, followed up to 8 tokens", "3 of 3, of the baseline 3"):
        assert text in trace.hovertemplate


STUDY = ["spt", "dpt-90", "dpt-50", "dpt-90-oracle", "spt-2x", "spt-downweight", "dpt-90-routed", "dpt-90-random-route"]


def linear(colour: str) -> np.ndarray:
    channel = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def contrast(colour: str) -> float:
    """Against white (WCAG 2)."""
    return 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    f = np.array([v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1, 1.089]])
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# Machado, Oliveira and Fernandes 2009, severity 1
VISION = {
    "usual": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}


def test_arms_are_seen_and_told_apart_by_every_kind_of_colour_vision() -> None:
    arms = [*STUDY, *(f"mine-{i}" for i in range(4)), "teacher:a", "teacher:b"]
    colours = [look.colour for look in arm_colours(arms).values()]
    assert min(map(contrast, colours)) >= 3
    assert min(contrast(colour) for colour in (INK, FAINT)) >= 4.5
    assert min(contrast(colour) for pair in SHADES for colour in pair) >= 3
    for name, sees in VISION.items():
        seen = [lab(sees @ linear(colour)) for colour in colours[: len(STUDY)]]
        apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        assert apart > 10, name


def test_an_arms_look_hangs_on_the_experiment_alone() -> None:
    many = [*STUDY, *(f"arm{i}" for i in range(60)), *(f"teacher:{i}" for i in range(12))]
    looks = arm_colours(many)
    assert len(set(looks.values())) == len(many)
    pairs = {(look.colour, look.dash) for look in looks.values()}
    assert len(pairs) == len(many)
    assert len({looks[arm].dash for arm in STUDY}) == len({looks[arm].symbol for arm in STUDY}) == len(STUDY), "in grey"
    # whichever of the study's arms there are, and whatever is added behind
    assert arm_colours(["dpt-90"])["dpt-90"] == looks["dpt-90"]
    assert arm_colours(["arm0", "spt", "teacher:0", "arm1"]).items() <= looks.items()
    assert not {look.colour for look in map(looks.get, STUDY)} & {looks[f"arm{i}"].colour for i in range(4)}


def test_figures_of_a_part_of_the_experiment_keep_its_looks(trained: Experiment) -> None:
    """The arms are noted with the table, so that a figure of some of them, or of one run, looks like that of all."""
    config = trained.config.model_copy(
        update={
            "arms": {"first": trained.config.arms["spt"], **trained.config.arms, "last": trained.config.arms["spt"]}
        }
    )
    whole = arm_colours(["first", "spt", "dpt", "last", "teacher:young"])
    assert arms_of(md.row_curves(trained)) == ["spt", "dpt", "teacher:young"]
    assert arms_of(md.row_curves(trained.run("dpt/seed-0"))) == ["spt", "dpt", "teacher:young"]
    table = with_arms(md.row_curves(trained.run("dpt/seed-0")), (run.treatment for run in expand(config)))
    for part in (table, table[table["step"] > 0]):
        lines = {t.line.color for t in row_curves_figure(part).data if t.mode == "lines" and t.legendgroup == "dpt"}
        assert lines == {arm_colours(arms_of(table))["dpt"].colour}
    assert whole["dpt"] != arm_colours(["dpt"])["dpt"]


def test_twins_stand_in_the_same_places() -> None:
    """Five arms of three seeds, one run missing: a seed's rows have all arms in order, and every panel every bar."""
    rows = [
        {
            "run": f"{arm}/seed-{seed}",
            "arm": arm,
            "seed": seed,
            "step": 9,
            "metric": "copy-loss-delta",
            "value": 1.0,
            "bucket": None,
        }
        | {"what": "head", "layer": 0, "head": head, "heads": None, "control": False, "ablation": "mean"}
        for seed in range(3)
        for arm in "abcde"
        for head in range(2 if arm == "b" else 4)
        if (arm, seed) != ("c", 1)
    ]
    table = pd.DataFrame(rows)
    order, columns = beside(table)
    assert columns == 3
    assert [order[i : i + 3] for i in range(6, 12, 3)] == [["a/seed-1", "b/seed-1", ""], ["d/seed-1", "e/seed-1", ""]]
    figure = ablation_figure(table)
    axes = list(figure.select_yaxes())
    assert len({(axis.categoryarray, axis.range) for axis in axes if axis.visible is not False}) == 1
    assert [axis.visible for axis in axes].count(False) == order.count("")
    assert len({round(axis.domain[1] - axis.domain[0], 9) for axis in axes}) == 1


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


def opened(browser: Any, figure: go.Figure, path: Path, width: int = 1300) -> Any:
    """A figure in a real browser that may reach nothing but the file."""
    path.write_text(to_html(figure), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.outside, page.problems = [], []
    page.on(
        "request",
        lambda r: page.outside.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector(".modebar-btn", state="attached")
    return page


@pytest.fixture
def page(scores: pd.DataFrame, tmp_path: Path, browser: Any) -> Iterator[Any]:
    page = opened(browser, induction_scores_figure(scores), tmp_path / "scores.html")
    page.wait_for_selector(".slider-group")
    yield page
    page.close()


WORDS = ".gtitle, .legendtext, .annotation-text, .updatemenu-header, .cbtitle text"
TEXTS = f"""() => [...document.querySelectorAll('{WORDS}')]
    .map(e => [e.textContent, e.getBoundingClientRect()]).map(([t, b]) => [t, b.left, b.top, b.right, b.bottom])"""


def test_no_words_overprint_on_a_narrow_page_and_nothing_leads_away(
    trained: Experiment, browser: Any, tmp_path: Path
) -> None:
    run = trained.run("spt/seed-0")
    arms = ["spt", "dpt-90", "dpt-90-random-route", "mine-with-a-name-that-is-long", "other"]

    def of_arms(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat(
            [table.assign(arm=arm, run=f"{arm}/seed-{seed}", seed=seed) for arm in arms for seed in (0, 1)]
        )

    differences = compare_twins(
        pd.DataFrame(
            [
                {"arm": arm, "seed": seed, "metric": metric, "value": float(seed * (i + 1))}
                for i, arm in enumerate(arms)
                for seed in range(4)
                for metric in ("kl", "copy-excess", "formation-tokens")
            ]
        ),
        "spt",
    )
    figures = {
        "heads": induction_scores_figure(of_arms(md.induction_scores(run))),
        "rows": row_curves_figure(of_arms(md.row_curves(run))),
        "bars": ablation_figure(of_arms(md.ablate(run))),
        "differences": comparison_figure(differences),
        "plain": plain_figure(MEASURES["row-curves"], of_arms(md.row_curves(run, 6))),
        "world": sandbox_figure(run.world, describe(run.world)),
    }
    for name, figure in figures.items():
        page = opened(browser, figure, tmp_path / f"{name}.html", width=800)
        texts = page.evaluate(TEXTS)
        assert len(texts) > 2, name
        for text, left, top, right, bottom in texts:
            assert left >= 0, (name, text)
            assert top >= 0, (name, text)
            assert right <= 800, (name, text)
            assert bottom <= figure.layout.height, (name, text)
        for one, other in itertools.combinations(texts, 2):
            (_, left, top, right, bottom), (_, x0, y0, x1, y1) = one, other
            assert not (left < x1 - 1 and x0 < right - 1 and top < y1 - 1 and y0 < bottom - 1), (name, one, other)
        buttons = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)")
        assert buttons
        assert not [title for title in buttons if re.search("share|cloud|studio|plotly", title, re.IGNORECASE)]
        assert page.evaluate("document.querySelectorAll('a[href^=http]').length") == 0
        assert page.outside == page.problems == []
        page.close()


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
