import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mechdistill.cli._arguments import parse_checkpoint, parse_seeds
from mechdistill.config import to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment, exclusive
from mechdistill.tables import MEASURES, RUN_COLUMNS, TRAINED, WORLD, p_value, since_half
from mechdistill.tables import shown as shown_symbol
from tests.helpers import copied, mechdistill, micro, rewritten


def test_neither_help_nor_wrong_usage_imports_anything_heavy() -> None:
    code = (
        "import sys\nfrom mechdistill.cli import main\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['mechdistill', *line.split()]\n"
        "    try: main()\n    except SystemExit as e: assert e.code in (None, 0, 2), e.code\n"
        "    heavy = {'torch', 'transformer_lens', 'pandas', 'numpy', 'mechdistill.config'} & set(sys.modules)\n"
        "    assert not heavy, (line, heavy)\n"
        "    assert line != '--help' or 'pydantic' not in sys.modules"  # typer itself reads a command's arguments by it
    )
    commands = ("train", *MEASURES, "compare", "match", "dynamics", "sandbox", "publish", "presets", "runs")
    helped = [f"{command} --help" for command in (*commands, "runs list", "runs show", "runs sql")]
    wrong = ["train --jobs 0", "train --nope", "nope", "ablate", "runs", "--plugin", "--plugin nowhere.py presets"]
    wrong += [
        f"{command} nowhere" for command in (*MEASURES, "compare", "match", "dynamics", "runs show")
    ]  # looked at before torch is loaded
    result = subprocess.run([sys.executable, "-c", code, "--help", *helped, *wrong], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(result.stderr.strip().splitlines()) == len(wrong), result.stderr
    for command in commands:
        assert command in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--set", "training.lrr=1"], "training.lrr: unknown key; did you mean 'lr'?"),
        (["train", "--set", "arms.dpt-90.alpha=1.2"], "arms.dpt-90.alpha=1.2: must be less than or equal to 1"),
        (["train", "--set", "sandbox.triggers.count=64"], "must be at most vocab - 4 = 60"),
        (["train", "--set", "sandbox.rows.high=5"], "rows.high=5.0: must be at most ln(vocab) = 4.1589"),
        (["train", "--set", "arms.dpt-90.teacher=nobody"], "(defined: half-formed, imperfect, oracle)"),
        (["train", "--set", "training.lr=nan"], "training.lr='nan': must be a number"),
        (["train", "--set", "lr=nan"], "did you mean 'training.lr'?"),
        (["train", "--seeds", "3-1"], "--seeds 3-1: a range runs from low to high; did you mean 1-3?"),
        (["train", "--seeds", "a"], "--seeds a: 'a' must be a seed or a range like 0-4"),
        (["train", "--arms", "sptt"], "--arms sptt: no such arm; did you mean 'spt'?"),
        (["train", "--preset", "quikstart"], "did you mean 'quickstart'?"),
        (["train", "missing.yaml"], "missing.yaml: no such experiment file"),
        (["train", "--device", "tpu"], "device 'tpu': not on this machine"),
        (["train", "--out", "occupied"], "is not empty and is no experiment"),
        (["induction-scores", "nowhere"], "nowhere: no such directory"),
        (["induction-scores", "occupied"], "occupied: neither a run nor an experiment"),
        (["row-curves", "occupied"], "occupied: neither a run nor an experiment"),
        (["ablate", "occupied", "--checkpoint", "first"], "neither a run nor an experiment"),
        (["presets", "tinny"], "did you mean 'tiny'?"),
    ],
)
def test_bad_input_is_one_line_exit_two_and_nothing_written(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "thesis.tex").write_text("precious")
    result = mechdistill(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert result.stdout == ""
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")) == ["occupied", "occupied/thesis.tex"]


@pytest.mark.parametrize("arguments", [["train", "--jobs", "0"], ["train", "--nope"], ["nope"], ["ablate"]])
def test_wrong_usage_is_one_line_and_exits_two(arguments: list[str]) -> None:
    result = mechdistill(*arguments)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr


def test_brackets_in_a_path_are_no_markup(tmp_path: Path) -> None:
    (tmp_path / "micro.yaml").write_text(to_yaml(micro(arms={"spt": {}})))
    result = mechdistill("train", "micro.yaml", "--out", "br/[/b]", "--arms", "spt", "--jobs", 1, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "br/[/b]" in result.stderr


def test_a_step_that_some_runs_lack_leaves_those_out_and_says_so(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    result = mechdistill("induction-scores", made[0], "--checkpoint", "18", "--json")
    assert result.returncode == 0
    assert {row["arm"] for row in json.loads(result.stdout)["rows"]} == {"spt", "dpt"}
    assert "left out: teachers/young/seed-0 has no checkpoint 18" in result.stderr
    none = mechdistill("induction-scores", made[0], "--checkpoint", "17")
    assert none.returncode == 2
    assert "nothing to measure" in none.stderr


def test_a_world_without_triggers_is_measured_too(tmp_path: Path) -> None:
    plain = micro(sandbox={"triggers": {"count": 0}}, teachers={}, arms={"spt": {}, "dpt": {"teacher": "young"}})
    (tmp_path / "plain.yaml").write_text(to_yaml(plain))
    assert mechdistill("train", "plain.yaml", "--arms", "spt", cwd=tmp_path).returncode == 0
    for command in ("induction-scores", "ablate", "row-curves"):
        result = mechdistill(command, tmp_path / "runs/micro")
        assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "micro.yaml").write_text(to_yaml(micro()))
    return folder / "runs/micro", mechdistill("train", "micro.yaml", "--jobs", 1, cwd=folder)


def test_train_says_what_came_out_where_and_what_next(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, result = made
    assert result.returncode == 0, result.stderr
    assert "copy-accuracy" in result.stdout
    assert "no-matching-accuracy" in result.stdout
    assert "next: mechdistill induction-scores runs/micro" in result.stderr
    assert (path / "spt/seed-0/metrics.parquet").exists()


def test_train_json_is_one_document(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, _ = made
    result = mechdistill("train", path.parent.parent / "micro.yaml", "--out", path, "--json")
    document = json.loads(result.stdout)
    assert document["schema"] == 1
    assert {row["state"] for row in document["rows"]} == {"finished"}
    assert {row["arm"] for row in document["rows"]} == {"spt", "dpt", "teacher:young"}
    assert set(document["rows"][0]) == {column.name for column in TRAINED.columns}
    for row in document["rows"]:
        assert Path(row["path"]).is_dir()
        assert 0 <= row["copy-accuracy"] <= 1


@pytest.mark.parametrize(
    ("command", "checkpoint"),
    [("induction-scores", "all"), ("row-curves", "all"), ("ablate", "last"), ("pass-at-k", "last")],
)
def test_measures_print_a_table_write_a_figure_and_give_json(
    made: tuple[Path, subprocess.CompletedProcess[str]], command: str, checkpoint: str
) -> None:
    path, _ = made
    shown = mechdistill(command, path, "--checkpoint", checkpoint)
    assert shown.returncode == 0, shown.stderr
    assert "spt/seed-0" in shown.stdout
    assert "dpt/seed-0" in shown.stdout
    other = checkpoint != MEASURES[command].checkpoint
    figure = path / "figures" / f"{command}{'-all' * other}.html"
    assert str(figure) in shown.stderr.replace("\n", "")
    assert "plotly" in figure.read_text()
    result = mechdistill(command, path, "--json", "--checkpoint", checkpoint)
    document = json.loads(result.stdout)
    assert set(document) == {"schema", "rows"}
    assert set(document["rows"][0]) == {c.name for c in (*RUN_COLUMNS, *MEASURES[command].columns)}
    steps = {row["step"] for row in document["rows"] if row["arm"] == "spt"}
    assert steps == ({0, 1, 2, 4, 6, 8, 12, 16, 18, 24} if checkpoint == "all" else {24})


def test_induction_scores_come_best_first(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    path, _ = made
    result = mechdistill("induction-scores", path / "spt/seed-0")
    lines = [line.split() for line in result.stdout.splitlines() if line[:1] == "L"]
    header = next(line.split() for line in result.stdout.splitlines() if line.startswith("head "))
    lookup = [float(line[header.index("trigger-lookup")]) for line in lines]
    assert len(lookup) == 4
    assert lookup == sorted(lookup, reverse=True)
    assert {line[0] for line in lines} == {"L0H0", "L0H1", "L1H0", "L1H1"}


def test_a_corrupt_checkpoint_is_one_line_and_nothing_is_written(trained: Experiment, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(trained.path, tmp_path / "copy"))
    shutil.rmtree(copy / "figures", ignore_errors=True)
    checkpoint = max((copy / "spt/seed-0/checkpoints").glob("*"))
    checkpoint.write_bytes(checkpoint.read_bytes()[:-7])
    before = sorted(copy.rglob("*"))
    for command in ("induction-scores", "row-curves", "ablate"):
        result = mechdistill(command, copy, "--checkpoint", "last")
        assert result.returncode == 2
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert str(checkpoint) in result.stderr
        assert "corrupt" in result.stderr
    assert sorted(copy.rglob("*")) == before


def test_a_checkpoint_that_is_not_there_names_the_nearest(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    result = mechdistill("induction-scores", made[0] / "spt/seed-0", "--checkpoint", "9")
    assert result.returncode == 2
    assert "the nearest is 8" in result.stderr


def test_a_world_is_shown_before_anybody_trains_in_it(
    made: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for arguments, figure in (
        (["--preset", "tiny"], tmp_path / "sandbox-tiny.html"),
        (["--set", "sandbox.triggers={kind: bernoulli, rate: 0.3}", "-o", "x.html"], tmp_path / "x.html"),
        ([made[0]], made[0] / "figures/sandbox.html"),
    ):
        result = mechdistill("sandbox", *arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "no-matching-accuracy (" in result.stdout, "and who guesses"
        assert "plotly" in figure.read_text()
    document = json.loads(mechdistill("sandbox", "--preset", "tiny", "--json", cwd=tmp_path).stdout)
    assert set(document["rows"][0]) == {column.name for column in WORLD.columns}
    wrong = mechdistill("sandbox", made[0], "--preset", "tiny")
    assert wrong.returncode == 2
    assert "for experiment files" in wrong.stderr


def test_presets_are_listed_and_printed() -> None:
    listed = mechdistill("presets")
    assert listed.returncode == 0
    assert "quickstart" in listed.stdout
    assert "Twins of one seed" in listed.stdout
    assert "vocab: 64" in mechdistill("presets", "quickstart").stdout


def test_seed_and_checkpoint_lists() -> None:
    assert parse_seeds("0-4") == [0, 1, 2, 3, 4]
    assert parse_seeds("7") == [7]
    assert parse_seeds("0, 2,5-6,2") == [0, 2, 5, 6]
    for bad in ("", "-1", "1-", "3-1", "x"):
        with pytest.raises(MechdistillError, match="--seeds"):
            parse_seeds(bad)
    assert parse_checkpoint("all") == "all"
    assert parse_checkpoint("12") == 12
    with pytest.raises(MechdistillError, match="must be last, all or a step"):
        parse_checkpoint("-3")


def test_a_directory_and_the_file_that_train_wrote_into_it_are_gone_on_with(
    trained: Experiment, tmp_path: Path
) -> None:
    out = copied(trained.path, tmp_path / "my runs")
    for target in (out, out / "experiment.yaml"):
        result = mechdistill("train", target, "--jobs", 1, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert "nothing left to train; 3 runs are finished" in result.stderr
        assert f"next: mechdistill induction-scores '{out}'" in result.stderr, "a path with a space is quoted"
    assert mechdistill("train", out / "spt/seed-0").returncode == 2
    (tmp_path / "experiment.yaml").write_text(to_yaml(micro()))  # one's own file of that name is no run directory
    fresh = mechdistill("train", tmp_path / "experiment.yaml", "--dry-run", cwd=tmp_path)
    assert "runs/micro: 3 runs to train" in fresh.stderr


def test_unfinished_twins_stand_under_their_steps_and_are_named(trained: Experiment, tmp_path: Path) -> None:
    out = copied(trained.path, tmp_path / "x")
    late = out / "dpt/seed-0"
    later = tuple(f"checkpoints/step-{step:08d}.safetensors" for step in (12, 16, 18, 24))
    rewritten(late, "status.json", later, state="interrupted", step=8, tokens=8 * 64)
    for name in later:
        (late / name).unlink()
    for command, headers in (
        ("induction-scores", ("dpt/seed-0 @8", "spt/seed-0 @24", "dpt/seed-0 at step 8")),
        ("ablate", ("spt/seed-0 at step 24", "dpt/seed-0 at step 8")),
        ("row-curves", ("step",)),
    ):
        shown = mechdistill(command, out, "--checkpoint", "last")
        assert shown.returncode == 0
        assert "not finished: dpt/seed-0 at step 8 of 24; each run is shown at its own last step" in shown.stderr
        assert "checkpoint 8 is the last that all have" in shown.stderr
        for header in headers:
            assert header in shown.stdout
        figure = (out / "figures" / f"{command}{'-last' * (command == 'row-curves')}.html").read_text()
        assert "dpt\\u002fseed-0 @8" in figure or "dpt/seed-0 @8" in figure
    assert "not finished" not in mechdistill("induction-scores", out, "--checkpoint", "8").stderr
    assert "since" not in mechdistill("induction-scores", out, "--checkpoint", "last").stdout, (
        "one step a run dates nothing"
    )


def test_all_checkpoints_say_since_when_and_keep_their_figure(made: tuple[Path, Any]) -> None:
    path = made[0] / "spt/seed-0"
    shown = mechdistill("induction-scores", path, "--checkpoint", "all")
    assert "step since when a score is at least half of that at step 24" in shown.stdout
    slider = path / "figures/induction-scores-all.html"
    before = slider.read_bytes()
    assert mechdistill("induction-scores", path).returncode == 0
    assert slider.read_bytes() == before
    assert (path / "figures/induction-scores.html").exists()


def test_since_half_is_the_step_after_which_no_value_is_below_half_of_the_last() -> None:
    curves = {"up": [0.0, 0.2, 0.6, 0.4, 0.9, 1.0], "down": [0.0, 0.3, -0.3, -0.1, -0.2, -0.2]}
    curves["none"] = [1.0] * 5 + [0.0]
    steps = [0, 1, 2, 4, 8, 16]
    rows = [
        {"run": run, "step": step, "value": value}
        for run, values in curves.items()
        for step, value in zip(steps, values, strict=True)
    ]
    found = since_half(pd.DataFrame(rows).sample(frac=1, random_state=0), ["run"]).set_index("run")["since"]
    assert found["up"] == 8  # at 4 it is below
    assert found["down"] == 2  # -.1 of -.2 is half
    assert pd.isna(found["none"])


def test_a_tokens_text_never_steers_the_terminal_and_json_keeps_it(tmp_path: Path) -> None:
    text = "a\x1b[31mred\n<b>bold</b>\u202e & [red]" * 30
    (tmp_path / "text.txt").write_text(text)
    vocab = len(set(text))
    world = f"sandbox={{vocab: {vocab}, seq_len: 16, rows: {{kind: corpus, path: text.txt}}, triggers: {{count: 1}}}}"
    shown = mechdistill("sandbox", "--preset", "tiny", "--set", world, "-o", "x.html", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert all(line.isprintable() for line in shown.stdout.splitlines())
    for symbol in ("'\\x1b'", "'\\n'", "'\\u202e'", "' '"):
        assert symbol in shown.stdout
    as_json = mechdistill("sandbox", "--preset", "tiny", "--set", world, "--json", cwd=tmp_path)
    symbols = {row["symbol"] for row in json.loads(as_json.stdout)["rows"] if row["symbol"] is not None}
    assert symbols == set(text)
    page = (tmp_path / "x.html").read_text()
    assert "from &lt;" in page or "from \\u0026lt;" in page
    assert "\x1b" not in page


@pytest.mark.parametrize(
    ("symbol", "text"),
    [("a", "a"), ("<b>", "<b>"), (" ", "' '"), ("", "''"), ("a\tb", "'a\\tb'"), ("\u0301", "'\\u0301'"), ("ß", "ß")],
)
def test_a_symbol_is_shown_as_it_is_or_quoted(symbol: str, text: str) -> None:
    assert shown_symbol(symbol) == text


def test_version_help_and_completion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # whichever shell the tests run in
    assert mechdistill("--version").stdout.startswith("mechdistill ")
    whole = " ".join(mechdistill("-h").stdout.split())
    for measure in MEASURES.values():
        assert measure.question in whole, "a summary is cut"
    assert "--checkpoint" in mechdistill("ablate", "-h").stdout
    script = mechdistill("--show-completion", "bash")
    assert "_MECHDISTILL_COMPLETE=complete_bash" in script.stdout + script.stderr


def test_no_p_value_is_nan_or_zero() -> None:
    assert [p_value(p) for p in (float("nan"), None, 0.0, 9e-5, 1e-4, 0.5)] == [
        "-",
        "-",
        *2 * ["< .0001"],
        "0.0001",
        "0.5000",
    ]


def test_a_killed_run_is_interrupted_and_not_running_for_ever(trained: Experiment, tmp_path: Path) -> None:
    out = copied(trained.path, tmp_path / "x")
    for run in ("dpt/seed-0", "teachers/young/seed-0"):
        rewritten(out / run, "status.json", state="running")

    def states() -> list[str]:
        return [row["state"] for row in json.loads(mechdistill("runs", "list", out, "--json").stdout)["rows"]]

    killed, running = ["interrupted", "finished", "interrupted"], ["running", "finished", "running"]
    assert states() == killed
    with exclusive(out):
        assert states() == running
        owner = json.loads((out / ".lock.json").read_text())
        dead = subprocess.Popen(["true"])
        dead.wait()
        for change, expected in (
            ({"pid": dead.pid}, killed),
            ({"heartbeat": owner["heartbeat"] - 100}, killed),
            ({"host": "elsewhere", "pid": dead.pid}, running),
            ({"host": "elsewhere", "heartbeat": owner["heartbeat"] - 100}, killed),
            ({}, running),
        ):
            (out / ".lock.json").write_text(json.dumps(owner | change))
            assert states() == expected
