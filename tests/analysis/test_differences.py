"""Differences of differences of trained runs, held against their own logs."""

import json
from pathlib import Path

import numpy as np
import pytest

import mechdistill as md
from mechdistill.errors import MechdistillError
from mechdistill.runs import Experiment
from mechdistill.training import train
from tests.helpers import micro, only

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
