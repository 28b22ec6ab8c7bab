import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

from mechdistill.plots import DARK, DARK_SCRIPT, induction_scores_figure, to_html
from mechdistill.plots._colours import INK, ON_PALE, PAPER


def opened(browser: Any, figure: go.Figure, path: Path, width: int = 1300, scheme: str = "light") -> Any:
    """A figure in a real browser that may reach nothing but the file."""
    path.write_text(to_html(figure), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.outside, page.problems = [], []
    page.on(
        "request",
        lambda r: page.outside.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None,
    )
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text))
    page.goto(path.as_uri())
    page.wait_for_selector(".modebar-btn", state="attached")
    return page


@pytest.fixture
def page(scores: pd.DataFrame, tmp_path: Path, browser: Any) -> Iterator[Any]:
    page = opened(browser, induction_scores_figure(scores), tmp_path / "scores.html")
    page.wait_for_selector(".slider-group")
    yield page
    page.close()


WORDS = ".gtitle, .gtitle-subtitle, .legendtext, .annotation-text, .updatemenu-header, .cbtitle text"
TEXTS = f"""() => [...document.querySelectorAll('{WORDS}')]
    .map(e => [e.textContent, e.getBoundingClientRect()]).map(([t, b]) => [t, b.left, b.top, b.right, b.bottom])"""


def check_words(page: Any, width: int, figure: go.Figure, name: str) -> None:
    texts = page.evaluate(TEXTS)
    assert len(texts) > 2, name
    for text, left, top, right, bottom in texts:
        assert left >= 0, (name, width, text)
        assert top >= 0, (name, width, text)
        assert right <= width, (name, width, text)
        assert bottom <= figure.layout.height, (name, width, text)
    for one, other in itertools.combinations(texts, 2):
        (_, left, top, right, bottom), (_, x0, y0, x1, y1) = one, other
        assert not (left < x1 - 1 and x0 < right - 1 and top < y1 - 1 and y0 < bottom - 1), (name, width, one, other)


@pytest.mark.slow
def test_no_words_overprint_at_any_width_and_nothing_leads_away(
    figures: dict[str, go.Figure], browser: Any, tmp_path: Path
) -> None:
    for name, figure in figures.items():
        page = opened(browser, figure, tmp_path / "figure.html", width=800)
        assert page.locator(".gtitle-subtitle").text_content(), f"{name} does not say how it is read"
        check_words(page, 800, figure, name)
        page.set_viewport_size({"width": 1280, "height": 800})
        page.wait_for_function("() => document.querySelector('.main-svg').width.baseVal.value > 1000")
        check_words(page, 1280, figure, name)
        buttons = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(e => e.dataset.title)")
        assert buttons
        assert not [title for title in buttons if re.search("share|cloud|studio|plotly", title, re.IGNORECASE)]
        assert page.evaluate("document.querySelectorAll('a[href^=http]').length") == 0
        assert page.outside == page.problems == [], name
        page.close()


def test_every_axis_says_what_it_counts(figures: dict[str, go.Figure]) -> None:
    """But those of heads, which are named along the axis."""
    for name, figure in figures.items():
        for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
            names = axis.type == "category" or axis.ticktext or axis.visible is False or axis.matches
            inner = axis.showticklabels is False and not axis.title.text
            assert axis.title.text or names or inner or name.startswith("plain"), name


PAINTED = """() => getComputedStyle(document.querySelector('.main-svg')).background.split(') ')[0] + ')'"""


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def test_the_page_works_offline_in_a_real_browser(page: Any, scores: pd.DataFrame) -> None:
    steps = sorted(scores["step"].unique())
    z_of_first = "document.querySelector('.js-plotly-plot').data[0].z.bdata"
    assert page.text_content(".slider-label") == f"checkpoint: step {steps[-1]}"
    before = page.evaluate(z_of_first)
    box = page.locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(box["x"] + 2, box["y"] + box["height"] / 2)
    page.wait_for_function(f"() => document.querySelector('.slider-label').textContent.endsWith('step {steps[0]}')")
    page.wait_for_function(f"() => {z_of_first} !== {json.dumps(before)}")
    visible = "() => document.querySelector('.js-plotly-plot').data.map(t => t.visible)"
    page.locator(".updatemenu-header").click()
    page.locator(".updatemenu-dropdown-button").nth(1).click()
    page.wait_for_function("() => document.querySelector('.js-plotly-plot').data[0].visible === true")
    page.wait_for_selector(".updatemenu-dropdown-button", state="detached")  # it is long, and lies over the slider
    chosen = page.evaluate(visible)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"() => ({PAINTED})() === '{rgb(DARK[PAPER])}'")
    assert page.evaluate(visible) == chosen, "a change of colours undid the choice of score"
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    page.wait_for_function(f"() => {z_of_first} === {json.dumps(before)}")
    assert page.evaluate(visible) == chosen, "moving the slider undid the choice of score"
    assert page.outside == []
    assert page.problems == []


def test_a_page_is_as_dark_as_its_readers_and_follows_them(
    figures: dict[str, go.Figure], browser: Any, tmp_path: Path
) -> None:
    page = opened(browser, figures["copying"], tmp_path / "figure.html", scheme="dark")
    for scheme, paper, ink in (
        ("dark", DARK[PAPER], DARK[INK]),
        ("light", PAPER, INK),
        ("dark", DARK[PAPER], DARK[INK]),
    ):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(f"() => ({PAINTED})() === '{rgb(paper)}'")
        assert page.evaluate("getComputedStyle(document.querySelector('.gtitle')).fill") == rgb(ink)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == rgb(paper)
    assert page.problems == []
    page.close()


def test_only_colours_are_recoloured_and_there_is_a_way_back(browser: Any) -> None:
    page = browser.new_page()
    page.goto("about:blank")
    figure = {
        "data": [{"name": INK, "marker": {"color": [PAPER, 3, None]}, "textfont": {"color": ON_PALE}, "x": [INK]}],
        "layout": {"paper_bgcolor": PAPER, "title": {"text": PAPER}, "template": {"layout": {"colorway": [INK]}}},
    }
    dark = page.evaluate(f"(figure) => {{ {DARK_SCRIPT}; return recoloured(figure, true); }}", figure)
    assert dark["data"][0] == {
        "name": INK,
        "marker": {"color": [DARK[PAPER], 3, None]},
        "textfont": {"color": DARK[ON_PALE]},
        "x": [INK],
    }
    assert dark["layout"]["title"]["text"] == PAPER
    assert dark["layout"]["template"]["layout"]["colorway"] == [DARK[INK]]
    for back in (dark, figure):
        assert page.evaluate(f"(figure) => {{ {DARK_SCRIPT}; return recoloured(figure, false); }}", back) == figure
    page.close()
