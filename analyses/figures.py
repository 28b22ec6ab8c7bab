"""Every figure of a finished experiment as a picture to read and as plotly JSON to reuse, and an index that says what
each shows and how it was made.

    python -m analyses.figures runs/figures            # into figures/; `make figures` trains them first
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import plotly.graph_objects as go

import mechdistill as md
from mechdistill import plots
from mechdistill.config import expand
from mechdistill.report import Drawn, Material, drawn
from mechdistill.runs import Experiment, as_argument, write_bytes, write_text

WIDTH = 1000  # pixels of a picture's page; it has two dots a pixel
PICTURE, REUSE, INDEX = ".png", ".json", "README.md"
_MARK = "<!-- written by analyses/figures.py -->"
_LINK = re.compile(rf"\]\(([\w-]+(?:{re.escape(PICTURE)}|{re.escape(REUSE)}))\)")


def _reading(figure: go.Figure) -> str:
    """How to read it: the line under its heading, escaped as it is there."""
    return (figure.layout.title.subtitle.text or "").replace("<br>", " ")


def index(figures: Sequence[Drawn], experiment: Experiment, command: str) -> str:
    """What each figure shows, of what it was made, and by which command."""
    config = experiment.config
    tokens = sorted({run.training.tokens for run in expand(config) if not run.is_teacher})
    numbers = sorted({run.seed for run in expand(config) if not run.is_teacher})
    seeds = f"seed{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
    lines = [
        _MARK,
        "# Figures",
        "",
        f"Of the experiment `{config.name}`: arms {', '.join(f'`{arm}`' for arm in config.arms)}; {seeds}; "
        f"{' or '.join(f'{number:,}' for number in tokens)} tokens a run. Made by `{command}`; `make figures` trains "
        'what is missing first. Each picture has its plotly figure beside it: `plotly.io.read_json("copying.json")`.',
    ]
    for each in figures:
        name, heading = each.drawing.name, escape(each.drawing.heading)
        of = "" if each.seed is None else f" Seed {each.seed}, one of {each.seeds}."
        tables = ", ".join(f"`{table}`" for table in each.drawing.tables)
        lines += [
            "",
            f"## {heading}",
            "",
            f"![{heading}]({name}{PICTURE})",
            "",
            f"{_reading(each.figure)}{of} From the tables {tables}; [plotly JSON]({name}{REUSE}).",
        ]
    return "\n".join(lines) + "\n"


def write(experiment: Experiment, out: Path, command: str, say: Callable[[str], None]) -> list[str]:
    """Write every figure and the index; the names of all files. What an earlier index names and is no longer made goes.

    Raises `MechdistillError` where no browser is that draws pictures, for an experiment that is not finished, and for a
    directory with an index of somebody else's.
    """
    plots.browser()
    unfinished = [run.name for run in experiment.runs if run.status["state"] != "finished"]
    missing = {str(run.path) for run in expand(experiment.config)} - {run.name for run in experiment.runs}
    if unfinished or missing:
        names = ", ".join([*unfinished, *sorted(missing)])
        raise md.MechdistillError(f"{experiment.path}: not finished are {names}; run `mechdistill train` on it first")
    before = _ours(out)
    material = Material(experiment)
    figures = drawn(material)
    for remark in material.remarks:
        say(remark)
    files: dict[str, bytes] = {}
    for each in figures:
        files[each.drawing.name + PICTURE] = plots.to_bytes(each.figure, PICTURE, WIDTH)
        files[each.drawing.name + REUSE] = _json(each.figure).encode()
    for name, data in files.items():
        write_bytes(out / name, data)
    write_text(out / INDEX, index(figures, experiment, command))
    for name in before - set(files):
        (out / name).unlink(missing_ok=True)
        say(f"{out / name}: removed; it is made no longer")
    return [*files, INDEX]


def _ours(out: Path) -> set[str]:
    """The files that the index of a directory names; raises `MechdistillError` for an index of somebody else's."""
    path = out / INDEX
    if not path.exists():
        return set()
    text = path.read_text(encoding="utf-8")
    if not text.startswith(_MARK):
        raise md.MechdistillError(f"{path}: is not an index of figures; choose another directory (--out)")
    return set(_LINK.findall(text))


def _json(figure: go.Figure) -> str:
    """The figure as plotly reads it, keys in a fixed order."""
    return json.dumps(json.loads(figure.to_json(engine="json")), sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """The script; 2 for what is wrong, in one line."""
    parser = argparse.ArgumentParser(prog="python -m analyses.figures", description=__doc__)
    parser.add_argument("experiment", type=Path, metavar="DIR", help="a finished experiment")
    parser.add_argument("--out", type=Path, default=Path("figures"), metavar="DIR", help="default: figures")
    given = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    shown = Path(os.path.relpath(given.experiment)) if given.experiment.is_absolute() else given.experiment
    try:
        experiment = md.load(given.experiment)
        if not isinstance(experiment, Experiment):
            raise md.MechdistillError(f"{given.experiment}: is one run; give its experiment's directory")
        files = write(experiment, given.out, f"{parser.prog} {as_argument(shown)}", say)
    except md.MechdistillError as error:
        say(str(error))
        return 2
    say(f"{given.out}: {len(files)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
