"""What a terminal, a pipe and a keyboard can do to a command."""

import contextlib
import errno
import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from mechdistill.cli import _console, _interrupts, _progress, _run
from mechdistill.cli._grid import Facts, Grid
from mechdistill.cli._interrupts import Interrupts
from mechdistill.cli._progress import Display
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, exclusive
from mechdistill.runs._files import write_text
from mechdistill.training import Outcome, Pace
from tests.helpers import copied, mechdistill

COMMANDS = (
    ["train", "{x}", "--jobs", "1"],
    ["induction-scores", "{x}/spt/seed-0", "--checkpoint", "all", "--no-figure"],
    ["row-curves", "{x}", "--checkpoint", "last", "--no-figure"],
    ["ablate", "{x}", "--no-figure"],
    ["compare", "{x}", "--no-figure"],
    ["runs", "list", "{x}"],
    ["runs", "show", "{x}/dpt/seed-0"],
    ["runs", "sql", "SELECT run, metric, value, value * 1e9 AS large, path FROM metrics LIMIT 9", "{x}"],
    ["sandbox", "{x}", "--no-figure"],
    ["presets"],
)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")


@pytest.fixture(scope="module")
def x(trained: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(trained.path, tmp_path_factory.mktemp("terminal") / "x")


# Ctrl-C


def press(_: object) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return 0


def press_and_hide_it(_: object) -> int:
    try:
        press(_)
    except KeyboardInterrupt:
        raise ImportError("numpy is broken") from None
    return 0


def press_and_swallow_it(_: object) -> int:
    try:
        press(_)
    except BaseException:
        return 0
    return 1


@pytest.mark.parametrize("command", [press, press_and_hide_it, press_and_swallow_it, lambda _: 130])
def test_ctrl_c_is_130_and_one_line_whatever_becomes_of_it(command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_run, "_command", command)
    monkeypatch.setattr(_interrupts, "_die_as_shells_expect", lambda: None)
    result = mechdistill("presets")
    assert result.returncode == 130
    assert result.stderr == "mechdistill: interrupted\n"


def test_a_second_ctrl_c_and_one_in_an_import_leave_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[bytes] = []

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(_interrupts, "_die_as_shells_expect", lambda: None)
    monkeypatch.setattr(_interrupts.os, "_exit", leave)
    monkeypatch.setattr(_interrupts.os, "write", lambda _, text: said.append(text))
    before = signal.getsignal(signal.SIGINT)
    try:
        twice = Interrupts()
        with pytest.raises(KeyboardInterrupt):
            twice.hear(2, None)
        with pytest.raises(SystemExit, match="130"):
            twice.hear(2, None)

        class Importing:
            f_code = type("", (), {"co_filename": "<frozen importlib._bootstrap>"})
            f_back = None

        with pytest.raises(SystemExit, match="130"):
            Interrupts().hear(2, Importing())  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGINT, before)
    assert [text[-25:] for text in said] == 2 * [b"mechdistill: interrupted\n"]


def test_ctrl_c_at_any_moment_of_a_real_process_is_130_and_a_script_stops(x: Path) -> None:
    measure = [sys.executable, "-m", "mechdistill", "induction-scores", str(x), "--no-cache"]
    script = ["bash", "-c", f"{' '.join(measure)}; echo went on"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # the tests may run where it is ignored
    started = [subprocess.Popen(command, **pipes) for command in (measure, measure, script)]
    for process, delay, times in zip(started, (0.4, 1.0, 0.3), (1, 3, 1), strict=True):
        time.sleep(delay)
        for _ in range(times):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.05)
    for process, code in zip(started, (130, 130, -signal.SIGINT), strict=True):
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert err == b"mechdistill: interrupted\n"
        assert out == b""


# tables


@given(
    names=st.lists(st.text(st.characters(blacklist_categories=("Cs",)), max_size=50), min_size=1, max_size=4),
    numbers=st.lists(st.floats(-1e12, 1e12, allow_nan=False), min_size=1, max_size=9),
    width=st.integers(24, 140),
)
def test_a_number_is_whole_or_its_column_is_named_as_left_out(
    names: list[str], numbers: list[float], width: int
) -> None:
    columns = ["run", *(f"column-{i} of many" for i in range(len(numbers)))]
    cells = [f"{number:.4f}" for number in numbers]
    lines = [
        line.text for line in Grid("", columns, [[name, *cells] for name in names], drop=(columns[-1],)).lines(width)
    ]
    assert all(cell_len(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    text = " ".join(" ".join(lines).split())
    left_out = [i for i, column in enumerate(columns[1:]) if f"{column}" in text.partition("left out:")[2]]
    rows = [line for line in lines if line.endswith(tuple(cells)) and "left out" not in line]
    kept = [cell for i, cell in enumerate(cells) if i not in left_out]
    assert not kept or [row.split()[-len(kept) :] for row in rows] == [kept] * len(names)


def test_columns_go_in_the_order_that_is_stated_and_the_names_stay_different() -> None:
    rows = [["dpt-90-routed-to-the-lowest/seed-0", "0.1234", "2"], ["dpt-90-routed-to-the-highest/seed-0", "0.5", "3"]]
    grid = Grid("", ["run", "value", "n"], rows, drop=("value",))
    wide, narrow, thin = ("\n".join(line.text for line in grid.lines(width)) for width in (80, 45, 32))
    assert "lowest/seed-0  " in wide
    assert "left out" not in wide + narrow
    for shown in (narrow, thin):
        first, second = (line.split()[0] for line in shown.splitlines() if line.startswith("dpt"))
        assert first != second
        assert "…" in second
        assert second.endswith("seed-0")
    assert "(1 column left out: value" in thin
    side = Grid("", ["", "spt", "dpt", "old"], [["best", "1.00", "2.00", "3.00"]], turn=True)
    turned = [line.text.split() for line in side.lines(12)]
    assert turned == [["best"], ["spt", "1.00"], ["dpt", "2.00"], ["old", "3.00"]]
    assert [line.text for line in Facts("", {"key": "1e-3 and 22"}).lines(25)] == ["key  1e-3 and 22"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]))
def test_no_command_breaks_a_number_at_any_width(command: list[str], x: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = [part.format(x="x") for part in command]
    monkeypatch.chdir(x.parent)
    whole = mechdistill(*arguments)
    assert whole.returncode == 0, whole.stderr
    known = set(NUMBER.findall(whole.stdout))
    for width in (60, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        shown = mechdistill(*arguments).stdout
        assert max(map(cell_len, shown.splitlines())) <= width
        pieces = re.sub(r"\(\d+ columns? left out[^)]*\)", "", shown)
        assert set(NUMBER.findall(pieces)) <= known


# pipes, disks and encodings


def gone() -> io.TextIOWrapper:
    """A pipe whose reader has left."""
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "w")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_reader_who_leaves_costs_neither_the_figure_nor_the_exit_code(x: Path, as_json: bool, tmp_path: Path) -> None:
    err, figure = io.StringIO(), tmp_path / "f.html"
    with gone() as out:
        assert run_with(out, err, "ablate", x, "-o", figure, *(["--json"] if as_json else [])) == 0
    assert err.getvalue() == f"figure: {figure}   (opens offline)\n"
    assert "plotly" in figure.read_text()


def run_with(out: Any, err: Any, *arguments: object) -> int:
    """The exit code of a command that writes to these streams."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        return _run.run([*map(str, arguments)])
    finally:
        sys.stdout, sys.stderr = before


def test_stderr_may_be_gone_too_and_a_full_disk_is_one_line() -> None:
    with gone() as out, gone() as err:
        assert run_with(out, err, "presets") == 0
    full, said = Path("/dev/full").open("w"), io.StringIO()  # noqa: SIM115
    assert run_with(full, said, "presets") == 2
    full.close()
    assert said.getvalue().count("\n") == 1
    assert "stdout: cannot be written (No space left on device)" in said.getvalue()
    assert run_with(None, None, "presets") == 0


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_an_encoding_lacks_is_a_question_mark(x: Path, encoding: str) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
    for command in (["train", x, "--jobs", 1], ["runs", "show", x / "dpt/seed-0"]):
        assert run_with(out, err, *command) == 0
    text = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "copy-accuracy ?2" in text
    assert "KL(teacher ? student)" in text


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write fails, and the clean-up after it fails otherwise."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "the clean-up has failed")

    monkeypatch.setattr("mechdistill.runs._files.os.fsync", refuse)
    monkeypatch.setattr(Path, "unlink", fail)


def test_what_cannot_be_stored_is_one_warning_and_the_numbers_are_there(x: Path, read_only: None) -> None:
    for command in ("row-curves", "ablate"):
        shown = mechdistill(command, x, "--checkpoint", "last", "--no-cache")
        assert shown.returncode == 0
        assert "spt/seed-0" in shown.stdout
        assert shown.stderr.count("\n") == 1, shown.stderr
        assert "Read-only file system" in shown.stderr
        assert "more files" in shown.stderr
    as_json = mechdistill("row-curves", x / "spt/seed-0", "--checkpoint", "last", "--no-cache", "--json")
    assert as_json.stdout.startswith('{"schema": 1')
    for command in (["compare", x], ["sandbox", x]):
        shown = mechdistill(*command)
        assert (shown.returncode, "no figure:" in shown.stderr) == (0, True)
        assert shown.stdout
    asked = mechdistill("compare", x, "-o", x / "mine.html")
    assert asked.returncode == 2, "a file that was asked for and is not there is no success"
    assert "copy-accuracy" in asked.stdout
    assert "Read-only" in asked.stderr.splitlines()[-1]


def test_the_clean_up_never_hides_the_reason(tmp_path: Path, read_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MechdistillError, match="Read-only file system"):
        write_text(tmp_path / "a", "b")
    monkeypatch.setattr("mechdistill.runs._files.os.fsync", lambda _: None)
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path):
        raise ZeroDivisionError


def test_figures_go_where_they_are_asked_for_or_nowhere(x: Path, tmp_path: Path) -> None:
    before = sorted(x.rglob("figures/*"))
    for command in (["ablate", x], ["compare", x], ["sandbox", x]):
        wrong = mechdistill(*command, "--figure", "a.tiff")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert "figures are written as .html, .png, .svg or .pdf; name it like a.html" in wrong.stderr
        assert mechdistill(*command, "-o", "a.html", "--no-figure").returncode == 2
        result = mechdistill(*command, "-o", tmp_path / f"{command[0]}.html", "--json")
        assert result.stdout.startswith('{"schema": 1')
        assert "plotly" in (tmp_path / f"{command[0]}.html").read_text()
        assert mechdistill(*command, "--no-figure").returncode == 0
    assert sorted(x.rglob("figures/*")) == before


# progress


def test_training_says_how_many_of_how_many_and_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("mechdistill.cli._progress.time.monotonic", lambda: now)
    with Display({"spt/seed-0": 100, "dpt/seed-0": 300}) as display:
        now += 30  # processes start, which says nothing about the pace
        display(Pace("spt/seed-0", 50, 100, 1e4))  # resumed here
        now += 10
        display(Pace("spt/seed-0", 100, 100, 1e4))
        display(Outcome("spt/seed-0", "finished"))
        display(Outcome("dpt/seed-0", "failed", "why"))
    first, second = capsys.readouterr().err.splitlines()
    assert first == "  1 of 2: spt/seed-0 finished at 40 s, about 60 s left"  # 50 steps took 10 s; 300 are left
    assert second == "  2 of 2: dpt/seed-0 failed at 40 s"


CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def displayed(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = True, **environment: str) -> str:
    """What the progress of four runs with long names writes to a terminal of its own, or to a pipe."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    parts: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # how a terminal says that nobody has it open any longer
            while part := os.read(ours, 65536):
                parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    names = [f"dpt-90-{how}-with-a-long-name/seed-{seed}" for how in ("routed", "random") for seed in (0, 10)]
    with os.fdopen(theirs, "w") as file:
        monkeypatch.setattr(
            _progress, "stderr", Console(**_console._PLAIN, file=file, soft_wrap=True, _environ=environment)
        )
        with Display(dict.fromkeys(names, 1000)) as display:
            for step in (1, 500):
                display(Pace(names[0], step, 1000, 2_340.0))
                display(Pace(names[1], step, 1000, 123_456.0))
                time.sleep(0.15)  # longer than from one picture to the next
            display(Outcome(names[0], "finished"))
    reader.join()
    os.close(ours)
    return b"".join(parts).decode()


@pytest.mark.parametrize(("columns", "grey"), [(80, False), (44, False), (80, True)])
def test_bars_fit_their_terminal(columns: int, grey: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"NO_COLOR": "1"} if grey else {}
    text = displayed(monkeypatch, TERM="xterm-256color", COLUMNS=str(columns), **asked)
    lines = re.split(r"[\r\n]+", CODES.sub("", text))
    assert any(line.startswith("  1 of 4: dpt-90-routed-with-a-long-name/seed-0 finished at ") for line in lines)
    bars = [line for line in lines if "%" in line]
    assert all(cell_len(line) <= columns for line in bars), bars
    assert any(re.fullmatch(r"0 of 4 runs? +━+[╸╺ ━]* +25 % about \d+ s left *", line) for line in bars), bars
    runs = {line.split()[0]: line for line in bars if "tokens/s" in line and " 50 %" in line}
    assert len(runs) == 2
    assert all(re.fullmatch(r"dpt-9.*….*-(0|10)", name) for name in runs)
    assert {line.split("%")[1].strip() for line in runs.values()} == {"2.3k tokens/s", "123k tokens/s"}
    assert ("\x1b[38;5" in text) == (not grey)


@pytest.mark.parametrize(
    ("terminal", "environment"), [(True, {"TERM": "dumb"}), (False, {"TERM": "xterm-256color", "FORCE_COLOR": "1"})]
)
def test_where_nothing_can_be_drawn_progress_is_plain_lines(
    terminal: bool, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = displayed(monkeypatch, terminal=terminal, **environment)
    assert re.fullmatch(r"  1 of 4: \S+/seed-0 finished at \d+ s, about \d+ s left\r?\n", text)


def test_training_ends_with_what_to_look_at_next(x: Path, tmp_path: Path) -> None:
    """Three commands that there are, each with what it answers, in a line of 80 columns."""
    result = mechdistill("train", "x", "--jobs", 1, cwd=x.parent)
    last = result.stderr.splitlines()[-3:]
    assert last[0].startswith("next: mechdistill ")
    assert max(map(len, last)) <= 80
    for line in last:
        command, answer = line.removeprefix("next:").split(" x ")
        assert answer.strip()
        assert mechdistill(*command.split()[1:], "--help").returncode == 0, command
    spaced = copied(x, tmp_path / "my runs")
    assert f" '{spaced}'  " in mechdistill("train", spaced, "--jobs", 1).stderr.splitlines()[-1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_takes_its_time_shows_it_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    from mechdistill.analysis import _progress

    shown: dict[type, str] = {}
    monkeypatch.setenv("TERM", "xterm")
    for patience in (0.05, 60.0):
        monkeypatch.setattr(_progress, "_PATIENCE", patience)
        for kind in (Terminal, io.StringIO):
            monkeypatch.setattr(sys, "stderr", kind())
            with _progress.progress("ablate", 3) as advance:
                advance("spt/seed-0 @24")
                time.sleep(0.4 if patience < 1 and kind is Terminal else 0)
            if patience < 1:
                shown[kind] = sys.stderr.getvalue()  # type: ignore[attr-defined]
            else:
                assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    assert shown[io.StringIO] == ""
    for text in ("ablate", "1/3", "spt/seed-0 @24"):
        assert text in shown[Terminal]
