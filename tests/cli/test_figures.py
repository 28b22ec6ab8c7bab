import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from mechdistill.cli._grid import Grid, table
from mechdistill.cli._latex import document, latex
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from tests.helpers import mechdistill

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def x(trained: Experiment, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained.path, tmp_path / "x"))


@needs_chromium
@pytest.mark.parametrize("command", [["ablate"], ["sandbox"]], ids=lambda command: command[0])
def test_a_figure_is_a_picture_where_its_name_says_so(x: Path, tmp_path: Path, command: list[str]) -> None:
    shown = mechdistill(*command, x, "-o", tmp_path / "a.svg", "--width", "720")
    assert shown.returncode == 0, shown.stderr
    assert f"figure: {tmp_path / 'a.svg'}\n" in shown.stderr
    assert 'width="720"' in (tmp_path / "a.svg").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name != "x"] == ["a.svg"], "nothing else is left"


def test_a_picture_without_a_browser_is_refused_before_anything_is_computed(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from choreographer.browsers.chromium import Chromium

    monkeypatch.setattr(Chromium, "find_browser", lambda **_: None)
    monkeypatch.setattr("mechdistill.runs.load", lambda *_: pytest.fail("it went on"))
    for command in ("ablate", "induction-scores", "row-curves", "compare", "sandbox"):
        shown = mechdistill(command, x, "-o", tmp_path / "a.png")
        assert (shown.returncode, shown.stdout, shown.stderr.count("\n")) == (2, "", 1), shown.stderr
        assert "'apt-get install chromium' or 'plotly_get_chrome'" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "a.tiff"], "written as .html, .png, .svg or .pdf; name it like a.html"),
        (["--table", "a.xlsx"], "written as .csv or .tex; name it like a.csv"),
        (["--table", ""], "name it like table.csv"),
        (["--width", "800"], "--width 800: is of a picture"),
        (["--width", "800", "-o", "a.html"], "--width 800: is of a picture"),
        (["--width", "399", "-o", "a.png"], "--width 399: must be between 400 and 4000 pixels"),
        (["--width", "4001", "-o", "a.png"], "--width 4001: must be between 400 and 4000 pixels"),
        (["-o", "."], "name it like figure.html"),
        (["-o", f"{300 * 'a'}.html"], "can be no file (File name too long)"),
        (["-o", "x/spt.html"], "is a directory; name a file"),
        (["--table", "x/experiment.yaml/a.csv"], "is a file; name another folder"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    x: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mechdistill.runs.load", lambda *_: pytest.fail("it went on"))
    (x / "spt.html").mkdir()
    for command in ("ablate", "compare", "sandbox"):
        shown = mechdistill(command, x, *arguments, cwd=x.parent)
        assert (shown.returncode, shown.stdout) == (2, "")
        assert shown.stderr.count("\n") == 1, shown.stderr
        assert said in shown.stderr


def test_a_table_is_all_that_json_gives_or_what_the_terminal_shows(x: Path, tmp_path: Path) -> None:
    for command in ("ablate", "compare", "sandbox"):
        path = tmp_path / f"{command}.csv"
        shown = mechdistill(command, x, "--no-figure", "--json", "--table", path)
        assert shown.returncode == 0, shown.stderr
        assert f"table: {path}\n" in shown.stderr
        rows, read = json.loads(shown.stdout)["rows"], list(csv.DictReader(io.StringIO(path.read_text())))
        assert [list(row) for row in rows[:1]] == [list(row) for row in read[:1]]
        assert len(rows) == len(read)
        for row, cells in zip(rows, read, strict=True):
            for name, value in row.items():
                same = float(cells[name]) == value if isinstance(value, float) else cells[name] == str(value)
                assert cells[name] == "" if value is None else same, (name, value, cells[name])

        shown = mechdistill(command, x, "--no-figure", "--table", tmp_path / "a.tex")
        text = (tmp_path / "a.tex").read_text()
        assert text.count("\\begin{tabular}") == shown.stdout.count("\n\n") + 1
        for word in shown.stdout.splitlines()[-1].split():
            assert word.strip("-") in text


def test_a_table_that_cannot_be_stored_is_no_success_and_the_numbers_are_printed(
    x: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise MechdistillError(f"{path}: cannot be written (No space left on device); free space or permit it")

    monkeypatch.setattr("mechdistill.runs.write_text", full)
    shown = mechdistill("compare", x, "--no-figure", "--table", tmp_path / "a.csv")
    assert shown.returncode == 2
    assert "copy-accuracy" in shown.stdout
    assert "cannot be written" in shown.stderr.splitlines()[-1]


EVIL = r"50 % of $a_b & #1 {x} ~ ^ \input{secret} <|> " + '"q"'


def test_latex_shows_what_the_cells_say(tmp_path: Path) -> None:
    grid = table(EVIL, ["arm", "KL, nats"], [[EVIL, "-0.125"], ["dpt-90", "-0.5 to 0.25"], ["[a]", "-"]])
    text = latex(grid)
    assert "\\input" not in text
    assert "dpt-90 & $-$0.5 to 0.25 \\\\" in text
    assert "{[a]} & -- \\\\" in text
    assert "\\begin{tabular}{lr}" in text
    shown = text
    for command, sign in (
        (r"\textbackslash{}", "\\"),
        (r"\textasciitilde{}", "~"),
        (r"\textasciicircum{}", "^"),
        (r"\textless{}", "<"),
        (r"\textgreater{}", ">"),
        (r"\textbar{}", "|"),
        (r"\textquotedbl{}", '"'),
        *((f"\\{sign}", sign) for sign in "%$&#_{}"),
    ):
        shown = shown.replace(command, sign)
    assert shown.count(EVIL) == 2, "caption and cell"
    assert "\\caption" not in latex(Grid("", ["a"], [["b"]]))
    odd = latex(Grid("", ["a", "b"], [["*a--b---c", "it's `x`,,"], ["p₁₀", "← ≈ μ σ ∞"]]))
    assert "{*a-{}-b-{}-{}-c} & it\\textquotesingle{}s \\textasciigrave{}x\\textasciigrave{},{}, \\\\" in odd, (
        "as typed"
    )
    assert odd.isascii()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="LaTeX is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    body = document([table(EVIL, ["arm", "≥ 2"], [[EVIL, "± 1"], ["*--'`,,", "p₁₀ ← ≈ μ σ ∞ …"]])])
    (tmp_path / "a.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}\n"
        f"{body}\\end{{document}}"
    )
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True)


def test_csv_keeps_every_digit(tmp_path: Path) -> None:
    from mechdistill.cli._present import _store_table

    data = pd.DataFrame({"value": [0.1 + 0.2, 1e-17, float("nan")], "arm": ["a,b", 'say "c"', None]})
    assert _store_table(data, list, tmp_path / "a.csv") is None
    assert pd.read_csv(tmp_path / "a.csv")["value"].tolist()[:2] == [0.1 + 0.2, 1e-17]
    assert (tmp_path / "a.csv").read_text().splitlines()[-1] == ","
