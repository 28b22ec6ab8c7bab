"""Differences of differences of trained runs, held against their own logs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from mechdistill.training import train
from tests.helpers import copied, mechdistill, micro, only

ARMS = ("dpt-wrong", "spt-wrong", "dpt", "spt")


@pytest.fixture(scope="module")
def clamped(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    wrong = {"model": {"clamps": [{"head": "L0H0", "pattern": "two-back"}]}}
    distilled = {"alpha": 0.9, "teacher": "oracle"}
    arms = {"spt": {}, "dpt": distilled, "spt-wrong": wrong, "dpt-wrong": {**distilled, **wrong}}
    out = tmp_path_factory.mktemp("differences") / "x"
    train(micro(arms=only(arms), teachers=only({"oracle": {"kind": "oracle"}}), seeds=[0, 1, 2, 3]), out)
    found = md.load(out)
    assert isinstance(found, Experiment)
    return found


def last_losses(path: Path, arm: str) -> np.ndarray:
    losses = []
    for seed in range(4):
        lines = [json.loads(line) for line in (path / arm / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["value"] for line in lines if line.get("metric") == "loss"][-1])
    return np.array(losses)


def test_it_is_what_the_logs_say(clamped: Experiment) -> None:
    table = md.difference_in_differences(clamped, ARMS[:2], ARMS[2:])
    row = table[table["metric"] == "loss"].iloc[0]
    a, b, c, d = (last_losses(clamped.path, arm) for arm in ARMS)
    assert row["n"] == 4
    assert row["difference"] == pytest.approx(((a - b) - (c - d)).mean(), abs=1e-9)
    assert row["low"] < row["difference"] < row["high"]


def test_the_command_prints_and_draws_it(clamped: Experiment) -> None:
    asked = ["compare", clamped.path, "--contrast", "dpt-wrong:spt-wrong", "--beyond", "dpt:spt"]
    shown, raw = mechdistill(*asked), mechdistill(*asked, "--json")
    assert shown.returncode == raw.returncode == 0, shown.stderr + raw.stderr
    assert "dpt-wrong - spt-wrong" in shown.stdout
    assert (clamped.path / "figures/contrast.html").is_file()
    rows = {row["metric"]: row["difference"] for row in json.loads(raw.stdout)["rows"]}
    table = md.difference_in_differences(clamped, ARMS[:2], ARMS[2:])
    assert rows == pytest.approx(dict(zip(table["metric"], table["difference"], strict=True)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--contrast", "dpt:spt"], "--contrast dpt:spt: is half"),
        (["--contrast", "dpt", "--beyond", "dpt:spt"], "--contrast dpt: must be two arms"),
        (["--contrast", "dpt:spt", "--beyond", "dpt-wrong:spt-wrong", "--baseline", "spt"], "names its own arms"),
    ],
)
def test_the_command_refuses_what_is_no_two_pairs(clamped: Experiment, options: list[str], message: str) -> None:
    result = mechdistill("compare", clamped.path, *options)
    assert (result.returncode, message in result.stderr) == (2, True), result.stderr


def test_a_seed_that_lacks_a_run_is_named(clamped: Experiment, tmp_path: Path) -> None:
    lacking = copied(clamped.path, tmp_path / "x")
    shutil.rmtree(lacking / "spt" / "seed-3")
    result = mechdistill("compare", lacking, "--contrast", "dpt-wrong:spt-wrong", "--beyond", "dpt:spt", "--no-figure")
    assert result.returncode == 0, result.stderr
    assert "left out, missing: spt seed 3" in result.stderr
    assert "3 of 4" in result.stdout


def test_formation_is_among_it_where_any_run_formed(clamped: Experiment) -> None:
    low = md.difference_in_differences(clamped, ARMS[:2], ARMS[2:], formed=0.01)
    high = md.difference_in_differences(clamped, ARMS[:2], ARMS[2:], formed=1.0)
    assert "formation-tokens" in set(low["metric"])
    assert "formation-tokens" not in set(high["metric"])


def test_what_it_cannot_compare_it_names(clamped: Experiment) -> None:
    for first, message in (
        (("dpt", "nobody"), "arm 'nobody': no finished run"),
        (("dpt",), "must be two arms"),
        (("dpt", "dpt"), "not one twice"),
    ):
        with pytest.raises(MechdistillError, match=message):
            md.difference_in_differences(clamped, first, ARMS[2:])
