"""The report as a reader meets it: in a browser without a network, in both colour schemes, and on the command line."""

import base64
import gzip
import html
import json
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

import mechdistill as md
from mechdistill.plots import FIGURES, Drawing, drawings
from mechdistill.report import Material, report
from mechdistill.report._answer import Evidence, answer
from mechdistill.report._report import pair
from mechdistill.runs import Experiment, load
from mechdistill.tables import CHECK_TABLE, frame
from mechdistill.training import train
from tests.helpers import copied, mechdistill, micro, only, unfinished

HOSTILE = "<img src=x onerror=alert(1)>"

# nothing routes there, one seed warns of nothing and varies with nothing, and no claim is about its arms
NOTHING = {"routing", "early-warning", "claims", "variance", "row-speed"}


@contextmanager
def opened(browser: Any, file: Path, **context: Any) -> Iterator[Any]:
    """The page without a network; leaves only if nothing went wrong in it and nothing was asked for."""
    wrong: list[str] = []
    alone = browser.new_context(offline=True, **context)
    page = alone.new_page()
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: wrong.append(request.url) if request.url != file.as_uri() else None)
    try:
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-figures=drawn]")
        yield page
    finally:
        alone.close()
    assert wrong == []


def carried(text: str) -> str:
    """All that a page holds, its packed part unpacked."""
    packed = re.search(r'id="payload">([^<]*)<', text)
    assert packed is not None
    return text.replace(packed[1], "") + gzip.decompress(base64.b64decode(packed[1])).decode("latin-1")


@pytest.fixture(scope="module")
def experiment(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The trained twins in a directory whose name is markup."""
    found = load(copied(trained.path, tmp_path_factory.mktemp("report") / HOSTILE))
    assert isinstance(found, Experiment)
    return found


@pytest.fixture(scope="module")
def written(experiment: Experiment) -> Path:
    """Its report, as the command writes it."""
    done = mechdistill("report", experiment.path)
    assert done.returncode == 0, done.stderr
    return experiment.path / "report.html"


def test_it_opens_without_a_network_and_shows_every_figure(browser: Any, written: Path, experiment: Experiment) -> None:
    with opened(browser, written, viewport={"width": 1280, "height": 800}) as page:
        assert page.title() == "micro: report"
        assert page.locator("h1").inner_text() == "micro"
        assert page.locator("img").count() == 0
        assert page.locator("#answer ol li").count() == 3
        plots = page.locator("[data-figure]")
        # micro routes nothing, and has one seed, which warns of nothing
        assert set(plots.evaluate_all("all => all.map(one => one.dataset.figure)")) == {
            drawing.name for drawing in drawings() if drawing.name not in NOTHING
        }
        assert page.locator("[data-figure] .main-svg").count() >= plots.count()
        words = plots.evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")
        assert all(len(text) > 40 and "<" not in text for text in words)
        # the question, the answer and the whole picture are on the first screen
        box = page.locator("#answer figure").bounding_box()
        assert box["y"] + box["height"] <= 860
        assert page.locator("#explorer").bounding_box()["y"] < 1600


def test_words_explain_themselves_to_pointer_and_keyboard(browser: Any, written: Path) -> None:
    with opened(browser, written) as page:
        word = page.locator("#answer dfn").first
        word.hover()
        told = page.locator("#tip").inner_text()
        assert told == page.locator(f"#{word.get_attribute('aria-describedby')}").inner_text()
        page.keyboard.press("Escape")
        assert page.locator("#tip").is_hidden()
        word.focus()
        assert page.locator("#tip").is_visible()


def test_links_lead_to_sections_and_leave_the_address_alone(browser: Any, written: Path) -> None:
    with opened(browser, written) as page:
        before = page.url
        for link in page.locator("nav a").all():
            link.click()
            place = page.locator(f"#{link.get_attribute('data-goto')}")
            assert place.evaluate("one => document.activeElement === one")
        assert page.url.partition("#")[0] == before.partition("#")[0]
        assert page.url.partition("#")[2] not in ("answer", "figures", "glossary")
        page.locator("#provenance summary").click()
        assert "seeds: [0]" in page.locator("#provenance pre").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_dark_on_light_or_light_on_dark(browser: Any, written: Path, scheme: str) -> None:
    with opened(browser, written, color_scheme=scheme, viewport={"width": 800, "height": 900}) as page:
        ink = "one => getComputedStyle(one).fill"
        lightness = [
            sum(int(part) for part in re.findall(r"\d+", colour)[:3]) / 765
            for colour in (
                page.locator("#answer .gtitle").first.evaluate(ink),
                page.locator("body").evaluate("one => getComputedStyle(one).backgroundColor"),
                page.locator("#answer .main-svg").first.evaluate("one => getComputedStyle(one).backgroundColor"),
            )
        ]
        text, *grounds = lightness
        assert all(abs(text - ground) > 0.6 for ground in grounds), lightness
        assert (text < 0.5) == (scheme == "light")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 800


def test_figures_follow_the_reader_who_changes_to_dark(browser: Any, written: Path) -> None:
    with opened(browser, written, color_scheme="light") as page:
        ink = "one => getComputedStyle(one).fill"
        before = page.locator("#answer .gtitle").first.evaluate(ink)
        page.emulate_media(color_scheme="dark")
        waited = 0
        while page.locator("#answer .gtitle").first.evaluate(ink) == before and waited < 50:  # the page forbids eval
            page.wait_for_timeout(100)
            waited += 1
        assert page.locator("#answer .gtitle").first.evaluate(ink) != before


def test_it_carries_nothing_of_the_machine(written: Path, experiment: Experiment) -> None:
    whole = carried(written.read_text())
    assert str(experiment.path.parent) not in whole
    assert str(Path.cwd()) not in whole
    assert platform.release() not in whole
    for said in ('http-equiv="Content-Security-Policy" content="default-src \'none\'', "SHA-256 of its weights"):
        assert said in whole


@pytest.mark.usefixtures("own_definitions")
def test_what_is_registered_finds_its_place(trained: Experiment) -> None:
    def draw(log: pd.DataFrame) -> go.Figure:
        return go.Figure(layout={"title": {"text": f"{log['run'].nunique()} runs"}})

    FIGURES.add(Drawing("mine", "Mine", ("metrics",), draw))

    @md.measure(columns=(), question=f"What {HOSTILE} is it?")
    def mine_too(subject: Any) -> pd.DataFrame:
        return pd.DataFrame([{"metric": "loss", "value": 1.0}])

    whole = carried(report(trained).html)
    assert '"text":"3 runs"' in whole
    for name in ("mine", "mine-too"):
        assert f'data-figure="{name}"' in whole
    assert HOSTILE not in whole


@pytest.mark.usefixtures("own_definitions")
@pytest.mark.parametrize(
    ("body", "said"),
    [("raise KeyError('boom')", "KeyError: 'boom'"), ("return 7", "gave int; must be a plotly Figure")],
)
def test_a_figure_that_fails_is_named_and_the_others_are_drawn(
    body: str, said: str, trained: Experiment, tmp_path: Path
) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import pandas as pd\nimport mechdistill as md\n\ndef broken(table):\n    " + body + "\n\n"
        "@md.measure(columns=(), question='What?', figure=broken)\ndef mine(subject):\n"
        "    return pd.DataFrame([{'metric': 'loss', 'value': 1.0}])\n"
    )
    done = mechdistill("report", copied(trained.path, tmp_path / "x"), "--plugin", plugin, "-o", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    whole = carried((tmp_path / "page.html").read_text())
    assert said in html.unescape(whole)
    assert 'data-figure="comparison"' in whole
    assert str(tmp_path) not in whole


@pytest.mark.parametrize(
    ("arms", "question"),
    [
        ({"spt": {}, "b": {"label_smoothing": 0.1}}, "Does b copy worse than spt"),
        (
            {"a": {"alpha": 0.9, "teacher": "young"}, "b": {"alpha": 0.5, "teacher": "young"}},
            "Does b copy worse than a",
        ),
        (
            {"spt": {}, "a": {"alpha": 0.5, "teacher": "young"}, "dpt-90": {"alpha": 0.9, "teacher": "young"}},
            "Did distillation harm copying (dpt-90 against spt)",
        ),
    ],
)
def test_the_question_is_the_experiments_own(arms: dict[str, Any], question: str, tmp_path: Path) -> None:
    train(micro(arms=only(arms)), tmp_path / "x")
    experiment = load(tmp_path / "x")
    assert isinstance(experiment, Experiment)
    asked = pair(experiment, md.compare(experiment))
    assert answer(
        Evidence(Material(experiment).finished(), None, asked, None, None, frame(CHECK_TABLE, []))
    ).question.startswith(question)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"sandbox": {"triggers": {"count": 0}}, "arms": only({"spt": {}, "b": {"label_smoothing": 0.1}})},
            "Nothing can be copied in this world",
        ),
        (
            {"model": only({"kind": "bigram"}), "arms": only({"spt": {}}), "teachers": only({})},
            "These models have no attention heads",
        ),
    ],
)
def test_other_worlds_and_models_have_reports_too(
    browser: Any, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    train(micro(**changes), tmp_path / "other")
    made = report(load(tmp_path / "other"))
    assert said in re.sub(r"<[^>]*>", "", made.html)
    file = tmp_path / "page.html"
    file.write_text(made.html)
    with opened(browser, file) as page:
        assert page.locator("[data-figure]").count() >= 1


def test_a_single_run_and_an_unfinished_one(trained: Experiment, tmp_path: Path) -> None:
    assert "What has formed in training" in report(trained.run("spt/seed-0")).html
    copy = copied(trained.path, tmp_path / "part")
    unfinished(copy / "dpt/seed-0")
    made = report(load(copy))
    assert any("dpt/seed-0 is not finished" in remark for remark in made.remarks)
    assert "is not finished: shown at step" in made.html


def test_the_command_writes_where_it_is_told_and_twice_the_same(
    experiment: Experiment, written: Path, tmp_path: Path
) -> None:
    done = mechdistill("report", experiment.path, "-o", tmp_path / "a.html", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert row == {"path": str(tmp_path / "a.html"), "bytes": (tmp_path / "a.html").stat().st_size}
    assert (tmp_path / "a.html").read_bytes() == written.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-o", "a.pdf"), "reports are written as .html; name it like a.html"),
        (("-o", "."), "name it like report.html"),
        (("-o", "file.html/x.html"), "is a file; name another folder"),
        (("-o", "folder.html"), "is a directory"),
        (("--max-size", "0"), "max_size=0.0: must be a number of megabytes"),
    ],
)
def test_what_cannot_be_written_is_refused_first(
    arguments: tuple[str, ...], said: str, experiment: Experiment, tmp_path: Path
) -> None:
    (tmp_path / "file.html").write_text("a file, no directory")
    (tmp_path / "folder.html").mkdir()
    done = mechdistill("report", experiment.path, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_path_is_no_experiment() -> None:
    with pytest.raises(md.MechdistillError, match="must be a run or an experiment"):
        report("runs/quickstart")  # type: ignore[arg-type]
