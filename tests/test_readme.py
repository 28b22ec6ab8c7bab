"""The README, walked from top to bottom in one folder as a newcomer would: every command, file and line of Python.

Nothing is left out but making the environment; runs are shortened in the presets and files themselves, so that each
command stands here exactly as it is printed there.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

import mechdistill as md
from mechdistill.cli import main
from mechdistill.config import _files

README = Path(__file__).parents[1] / "README.md"
SET_UP = ("make ", "python3 -m venv", ".venv/bin/pip")  # what CI itself has done before it came here

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_definitions")]


def short(text: str) -> str:
    """An experiment file whose runs take seconds: few tokens, and teachers that end with theirs."""
    text = re.sub(r"tokens: ([0-9_]+)", lambda given: f"tokens: {int(given[1]) // 100}", text)
    return re.sub(r"until: \{[^}]*\}", "training: {tokens: 10_000}", text)


def blocks() -> list[tuple[str, str]]:
    """(language, text) of every code block in order; an indented one is a shell's."""
    found: list[tuple[str, str]] = []
    fence = re.compile(r"^```(\w*)\n(.*?)^```$|((?:^    [^\n]*\n)+)", re.MULTILINE | re.DOTALL)
    for match in fence.finditer(README.read_text(encoding="utf-8")):
        language, fenced, indented = match.groups()
        found.append(("sh", re.sub("^    ", "", indented, flags=re.MULTILINE)) if indented else (language, fenced))
    return found


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One shell line with the real command line, in this process."""
    words = shlex.split(line, comments=True)
    target, path = io.StringIO(), None
    if ">" in words:
        words, path = words[:-2], Path(words[-1])
    monkeypatch.setattr("sys.argv", ["mechdistill", *words[1:]])
    with contextlib.redirect_stdout(target), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (None, 0), line
    if path:
        path.write_text(short(target.getvalue()))


def test_every_command_of_the_readme_works_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    original = _files.preset_text
    monkeypatch.setattr(_files, "preset_text", lambda name: short(original(name)))
    ran: list[str] = []
    for language, text in blocks():
        if language == "sh" and not text.split()[0].endswith("/"):  # the picture of a run directory is no command
            for line in text.splitlines():
                command = line.removeprefix(".venv/bin/")
                if command.startswith("mechdistill "):
                    run(command, monkeypatch)
                    ran.append(command)
                else:
                    assert line.startswith(SET_UP) or not line, line
        elif language == "yaml":
            Path("own.yaml").write_text(short(text))
            run("mechdistill train own.yaml --arms spt,dpt-90-oracle", monkeypatch)
        elif text.startswith("# mine.py"):
            Path("mine.py").write_text(text)
        elif language == "python":
            exec(compile(text, "README.md", "exec"), {})
    assert len(ran) >= 12, ran
    assert md.load("runs/quickstart").runs
