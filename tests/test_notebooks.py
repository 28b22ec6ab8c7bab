"""The notebooks: they run from start to end, what they claim by hand holds, and nothing of a machine is stored."""

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from analyses.notebooks import LIVE, NOTEBOOKS, executed, tags
from mechdistill.runs import Experiment
from tests.helpers import copied

EXPLORE, EXTEND = NOTEBOOKS
LARGEST = 300_000  # bytes: what a web page still shows, and git still bears


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> str:
    """All that a cell shows as text; one line may come in several parts."""
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


@pytest.mark.slow
def test_the_circuit_is_found_by_hand_as_by_our_functions(trained: Experiment, tmp_path: Path) -> None:
    """The cells assert it: scores equal `md.induction_scores`, ablations `md.ablate`, logits the bridge's."""
    run = copied(trained.path, tmp_path / "run")
    parameters = {"RUN": str(run), "TWINS": ["spt/seed-0", "dpt/seed-0"]}
    cells = code(executed(EXPLORE, tmp_path, "json", parameters))
    assert all(cell.execution_count for cell in cells)
    said = "\n".join(map(shown, cells))
    single, first = 4, 4
    assert re.search(rf"'{(single + first) * 2} ablations agree'", said), "the circuit of so short a run is empty"
    assert re.search(r"\d+ edges agree", said)
    assert "TransformerBridge" in said
    (live,) = [cell for cell in cells if LIVE in tags(cell)]
    assert live.outputs


@pytest.mark.slow
def test_what_a_user_defines_trains_and_is_measured_in_a_folder_of_theirs(tmp_path: Path) -> None:
    shutil.copy(EXTEND.with_name("mine.py"), tmp_path)
    cells = code(executed(EXTEND, tmp_path, "json"))
    assert all(cell.execution_count for cell in cells)
    *_, unknown, misshaped = map(shown, cells)
    assert unknown.startswith("teachers.forgetful.kind='forgetfull': must be one of 'oracle', ")
    assert misshaped.startswith("flat/seed-0: failed: teacher 'flat': gave float32 [256, 32]; must be log-probab")
    assert unknown.count("\n") == misshaped.count("\n") == 1, "one line each"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_complete_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    for where in (r"/(home|root|tmp|Users|var|work|usr|opt)/", r"site-packages", r"[A-Z]:\\\\"):
        assert not re.search(where, text), where
    cells = code(nbformat.read(path, as_version=4))
    for number, cell in enumerate(cells, 1):
        assert cell.execution_count == number, "run it anew: python -m analyses.notebooks"
        assert not [
            output for output in cell.outputs if output.output_type == "error" or output.get("name") == "stderr"
        ]
        assert not (LIVE in tags(cell) and cell.outputs), "megabytes"
        assert not [output for output in cell.outputs if "application/javascript" in output.get("data", {})]
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2, "a reader on the web sees what comes out"
