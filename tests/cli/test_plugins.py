"""--plugin through the real command line."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mechdistill as md
from mechdistill.config import to_yaml
from mechdistill.runs import Experiment
from tests.helpers import copied, micro, only_meanwhile, rewritten
from tests.helpers import mechdistill as run_command

SCORE = '''
import mechdistill as md
print("hello from the file")

@md.head_score(label="size of the output matrix")
def output_size(view, probes):
    """Norm of W_O over itself plus 1.

    Range [0, 1]; chance: none. Source: ours.
    """
    sizes = view.W_O.norm(dim=(-2, -1))
    return sizes / (1 + sizes)
'''
MEASURE = '''
import pandas as pd
import mechdistill as md

WEIGHTS = md.metric("parameters", "number of parameters", high=float("inf"))

@md.measure("How many parameters are there?")
def count_parameters(subject):
    """The number of parameters. Range: from 1; chance: none."""
    return pd.DataFrame([WEIGHTS.row(float(sum(p.numel() for p in subject.model.parameters())))])
'''


@pytest.fixture
def mechdistill() -> Any:
    """As in a process of its own: what a file defines is gone after the command."""

    def command(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        with only_meanwhile():
            return run_command(*arguments, cwd=cwd)

    return command


@pytest.fixture
def run(trained: Experiment, tmp_path: Path) -> Path:
    return copied(trained.path, tmp_path / "x") / "spt/seed-0"


@pytest.fixture
def mine(tmp_path: Path) -> Any:
    def write(text: str, name: str = "mine.py") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_a_head_score_of_ones_own_is_in_table_json_and_figure(run: Path, mine: Any, mechdistill: Any) -> None:
    file = mine(SCORE)
    shown = mechdistill("induction-scores", run, "--plugin", file)
    assert shown.returncode == 0, shown.stderr
    assert "output-size" in shown.stdout
    assert "hello from the file" not in shown.stdout
    assert "hello from the file" in shown.stderr
    assert "output-size" in (run / "figures/induction-scores.html").read_text()
    rows = json.loads(mechdistill(f"--plugin={file}", "induction-scores", run, "--json").stdout)["rows"]
    own = {(row["layer"], row["head"]): row["value"] for row in rows if row["metric"] == "output-size"}
    model = md.load(run).model()  # type: ignore[union-attr]
    for (layer, head), value in own.items():
        size = float(model.W_O[layer, head].norm())
        assert value == pytest.approx(size / (1 + size))
    assert len(own) == 4
    fresh = [sys.executable, "-m", "mechdistill", "induction-scores", str(run), "--json"]
    without = json.loads(subprocess.run(fresh, capture_output=True, check=True).stdout)["rows"]
    assert "output-size" not in {row["metric"] for row in without}


def test_a_measure_of_ones_own_is_a_command(run: Path, mine: Any, mechdistill: Any) -> None:
    file = mine(MEASURE)
    assert "How many parameters are there?" in mechdistill("count-parameters", "--help", "--plugin", file).stdout
    assert "count-parameters" in mechdistill("--plugin", file).stdout
    assert mechdistill("count-parameters", run).returncode == 2, "it is not known without the file"
    (row,) = json.loads(mechdistill("--plugin", file, "count-parameters", run, "--json").stdout)["rows"]
    assert row["value"] == sum(p.numel() for p in md.load(run).model().parameters())  # type: ignore[union-attr]
    shown = mechdistill("count-parameters", run, "--plugin", file)
    assert "parameters" in shown.stdout
    assert (run / "figures/count-parameters.html").exists()
    counted = mechdistill("runs", "sql", "SELECT value FROM count_parameters", run, "--json", "--plugin", file)
    assert json.loads(counted.stdout)["rows"] == [{"value": row["value"]}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SCORE.replace("output_size", "induction"), "head score 'induction': mechdistill has one of that name already"),
        ("def f(:\n", "SyntaxError"),
        ("1 / 0\n", "line 1: ZeroDivisionError"),
        (None, "no such file; name a Python file"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_two(
    text: str | None, message: str, mine: Any, tmp_path: Path, mechdistill: Any
) -> None:
    file = tmp_path / "nowhere.py" if text is None else mine(text)
    for arguments in (["--plugin", file, "presets"], ["presets", "--plugin", file]):
        result = mechdistill(*arguments)
        assert result.returncode == 2
        (line,) = [line for line in result.stderr.strip().splitlines() if line != "hello from the file"]
        assert message in line
        assert str(file) in line
        assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["presets", "--plugin"], ["--plugin=", "presets"]])
def test_a_missing_file_name_is_one_line_and_exit_two(arguments: list[str], mechdistill: Any) -> None:
    result = mechdistill(*arguments)
    assert result.returncode == 2
    assert result.stderr == "mechdistill: --plugin: names no file; give one, like --plugin mine.py\n"


@pytest.mark.parametrize("command", [[], ["train"], ["ablate"], ["compare"], ["runs"], ["runs", "sql"]])
def test_help_says_so(command: list[str], mechdistill: Any) -> None:
    assert "--plugin FILE.py" in mechdistill(*command, "--help").stdout


def test_training_notes_the_files_and_its_processes_load_them(mine: Any, tmp_path: Path, mechdistill: Any) -> None:
    file, marks = mine(f"import os\nopen(f'{tmp_path}/{{os.getpid()}}.mark', 'w').close()\n"), "*.mark"
    (tmp_path / "micro.yaml").write_text(to_yaml(micro(seeds=[0, 1])))
    result = mechdistill("train", "micro.yaml", "--jobs", "2", "--plugin", file, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob(marks))) == 3, "this process and two workers"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    for record in (tmp_path / "runs/micro").rglob("provenance.json"):
        assert json.loads(record.read_text())["plugins"] == [{"file": "mine.py", "sha256": digest}]
    shown = mechdistill("runs", "show", tmp_path / "runs/micro/spt/seed-0")
    assert digest in re.sub(r"\s", "", shown.stdout)
    md.publish(md.load(tmp_path / "runs/micro"), tmp_path / "out")
    assert f"mine.py (SHA-256 {digest})" in (tmp_path / "out/README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "out/spt/seed-0/provenance.json").read_text()


def test_a_run_directory_never_loads_a_file(run: Path, tmp_path: Path, mechdistill: Any) -> None:
    trap = f"open('{tmp_path}/sprung', 'w').close()\n"
    for folder in (run, run.parents[1]):
        for name in ("mine.py", "mechdistill_plugin_mine.py", "sitecustomize.py", "conftest.py"):
            (folder / name).write_text(trap)
        record = {"plugins": [{"file": str(folder / "mine.py"), "sha256": "0" * 64}], "plugin": "mine.py"}
        rewritten(run, "provenance.json", **record)
    query = ["runs", "sql", "FROM metrics", run.parents[1]]
    for arguments in (["induction-scores", run], ["runs", "show", run], query):
        assert mechdistill(*arguments, cwd=tmp_path).returncode == 0
    md.publish(md.load(run), tmp_path / "out")
    assert not (tmp_path / "sprung").exists()
