"""The figures of the study: every drawing becomes a picture and its JSON, the same each time, with an index of both."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.io
import pytest

import mechdistill as md
from analyses import figures
from mechdistill import plots, report
from mechdistill.runs import Experiment, load
from mechdistill.training import train
from tests.helpers import copied, micro

TO_BYTES = plots.to_bytes
# no arm of the experiment routes, one seed warns of nothing and varies with nothing, and no claim can be tested of it
NOTHING = {"routing", "early-warning", "claims", "variance", "row-speed"}


@pytest.fixture(scope="module")
def experiment(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(trained.path, tmp_path_factory.mktemp("analyses") / "micro")


@pytest.fixture(scope="module")
def out(experiment: Path) -> Path:
    try:
        plots.browser()
    except md.MechdistillError as error:
        pytest.skip(str(error))
    made = experiment.parent / "figures"
    drawn: list[str] = []

    def picture(figure: go.Figure, suffix: str, width: int) -> bytes:
        """By the browser, which takes seconds, of the first two only."""
        drawn.append(suffix)
        return TO_BYTES(figure, suffix, width) if len(drawn) <= 2 else b"\x89PNG, not drawn"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "to_bytes", picture)
        assert figures.main([str(experiment), "--out", str(made)]) == 0
    return made


def test_every_drawing_is_a_picture_and_reads_back(out: Path, experiment: Path) -> None:
    names = {drawing.name for drawing in plots.drawings()} - NOTHING
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        *(f"{n}{s}" for n in names for s in (".png", ".json")),
    }
    drawn = {each.drawing.name: each.figure for each in report.drawn(report.Material(load(experiment)))}
    for name in names:
        picture = (out / f"{name}.png").read_bytes()
        if name in [drawing.name for drawing in plots.drawings()][:2]:
            assert picture.startswith(b"\x89PNG\r\n\x1a\n")
            assert int.from_bytes(picture[16:20]) == 2 * figures.WIDTH, "pixels, in the header's big-endian"
        read = plotly.io.read_json(out / f"{name}.json")
        assert read.layout.title.text == drawn[name].layout.title.text
        assert len(read.data) == len(drawn[name].data) > 0
        assert read == plotly.io.from_json(drawn[name].to_json())


def test_the_index_says_what_each_shows_of_what_and_how(out: Path, trained: Experiment) -> None:
    text = (out / "README.md").read_text()
    config = trained.config
    for part in (
        "`micro`",
        "`spt`",
        "`dpt`",
        "seed 0",
        f"{config.training.tokens:,} tokens",
        "python -m analyses.figures",
    ):
        assert part in text, part
    for drawing in plots.drawings():
        if drawing.name not in NOTHING:
            assert f"## {drawing.heading}\n" in text
            assert f"]({drawing.name}.png)" in text
            for table in drawing.tables:
                assert f"`{table}`" in text


def test_a_second_run_changes_no_byte_of_the_json_and_removes_what_is_made_no_longer(
    out: Path, experiment: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in out.glob("*.json")}
    mine = out / "mine.png"
    mine.write_bytes(b"no index names it")
    first, *_, last = plots.drawings()
    monkeypatch.setattr(plots, "drawings", lambda: [first])
    assert figures.main([str(experiment), "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"README.md", "mine.png", f"{first.name}.png", f"{first.name}.json"}
    assert f"{last.name}.png: removed" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(plots, "to_bytes", lambda *_: b"no picture, which takes seconds")
    assert figures.main([str(experiment), "--out", str(out)]) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.json")} == before


def test_of_several_seeds_figures_by_run_show_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel a run would be a page of panels: one seed of the students, whatever that of their teacher, is named."""
    seen: dict[str, set[int]] = {}

    def looked(drawing: plots.Drawing) -> plots.Drawing:
        def draw(*tables: pd.DataFrame) -> go.Figure | None:
            seen[drawing.name] = {int(seed) for table in tables for seed in table["seed"].unique()}
            return drawing.draw(*tables)

        return replace(drawing, draw=draw)

    by_run, by_arm = (next(d for d in plots.drawings() if d.per_run == per_run) for per_run in (True, False))
    monkeypatch.setattr(plots, "drawings", lambda: [looked(by_arm), looked(by_run)])
    train(micro(seeds=[1, 2], teachers={"young": {"seed": 0}}), tmp_path / "two")
    several = load(tmp_path / "two")
    assert isinstance(several, Experiment)
    drawn = report.drawn(report.Material(several))
    assert [(each.seed, each.seeds) for each in drawn] == [(None, 2), (1, 2)]
    assert seen == {by_run.name: {1}, by_arm.name: {0, 1, 2}}
    assert "Seed 1, one of 2." in figures.index(drawn, several, "")


def test_the_stored_figures_are_those_that_their_index_names() -> None:
    stored = Path(figures.__file__).parents[1] / "figures"
    text = (stored / "README.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    assert {path.name for path in stored.iterdir()} == {"README.md", *links}
    assert "`python -m analyses.figures runs/figures`" in text
    for name in links:
        data = (stored / name).read_bytes()
        assert not re.search(rb"/(home|root|tmp|Users|work)/", data), name
        assert data.startswith(b"\x89PNG") if name.endswith(".png") else json.loads(data)["data"]


@pytest.mark.parametrize("what", ["no browser", "unfinished", "foreign index", "a run"])
def test_what_cannot_be_is_one_line_and_2_and_nothing_is_written(
    what: str, experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = copied(experiment, tmp_path / "x"), tmp_path / "figures"
    if what == "no browser":

        def none() -> str:
            raise md.MechdistillError("no Chromium or Chrome found; install one")

        monkeypatch.setattr(plots, "browser", none)
    elif what == "unfinished":
        shutil.rmtree(folder / "dpt")
    elif what == "foreign index":
        out.mkdir()
        (out / "README.md").write_text("# Mine\n")
    else:
        folder /= "spt/seed-0"
    assert figures.main([str(folder), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert not list(out.glob("*.png"))
