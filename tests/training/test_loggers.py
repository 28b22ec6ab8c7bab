import json
import random
import sqlite3
import subprocess
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechdistill.config import RunConfig, expand
from mechdistill.errors import MechdistillError
from mechdistill.training import _loggers
from mechdistill.training._loggers import LOGGERS, logger, metric_name, run_id
from tests.helpers import micro

ROWS = [
    {"metric": "loss", "value": 2.0},
    {"metric": "kl", "value": 0.5, "occurrence": "0"},
    {"metric": "kl", "value": 0.25, "bucket": 0, "occurrence": "0"},
    {"metric": "copy-accuracy", "value": 0.75, "occurrence": "2+"},
]
NAMES = {"loss": 2.0, "kl/occurrence-0": 0.5, "kl/bucket-0": 0.25, "copy-accuracy/occurrence-2+": 0.75}
# two sessions in a process of their own, as in a worker; the second goes over what the first had logged last
TWO_SESSIONS = """
import sys
from mechdistill.training._loggers import logger
from tests.training.test_loggers import ROWS, a_run
for steps in ((0, 5, 10), (5, 10, 15)):
    into = logger(sys.argv[1])
    into.start(a_run())
    for step in steps:
        into.log(step, step * 64, ROWS)
    into.finish("finished")
"""


def a_run(**changes: Any) -> RunConfig:
    return next(run for run in expand(micro(**changes)) if run.treatment == "spt")


def sessions(name: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    import os

    command = [sys.executable, "-W", "error::UserWarning:__main__", "-c", TWO_SESSIONS, name]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=120)


def test_metric_names_are_flat_and_apart() -> None:
    assert {metric_name(row): row["value"] for row in ROWS} == NAMES


def test_a_runs_id_is_the_same_in_every_session_and_another_runs_is_not() -> None:
    ids = [run_id(a_run()), run_id(a_run(training={"lr": 1e-4})), run_id(a_run(name="other"))]
    ids += [run_id(run) for run in expand(micro(seeds=[0, 1])) if run.path != a_run().path]
    assert len(set(ids)) == len(ids)
    assert run_id(a_run()) == ids[0]
    assert all(len(text) == 16 and text.isalnum() for text in ids)


def test_wandb_goes_on_with_one_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    result = sessions("wandb", {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "failed and is off" not in result.stderr
    stores = sorted(tmp_path.glob(f"wandb/offline-run-*-{run_id(a_run())}*/*.wandb"))
    assert [store.name for store in stores] == 2 * [f"run-{run_id(a_run())}.wandb"], "one id, whatever the session"
    data = stores[0].read_bytes()
    for text in (*NAMES, "copy-accuracy/occurrence-2+", "spt/seed-0", "micro", "mechdistill"):
        assert text.encode() in data, text


def test_wandb_skips_what_an_earlier_session_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed online run says from which step it goes on."""
    wandb = pytest.importorskip("wandb")
    seen: dict[str, Any] = {"logged": []}

    class Resumed:
        step = 11
        summary: dict[str, str] = {}  # noqa: RUF012

        def log(self, values: dict[str, float], step: int) -> None:
            seen["logged"].append((step, values))

        def finish(self, exit_code: int) -> None:
            seen["exit_code"] = exit_code

    monkeypatch.setattr(_loggers, "_answers", lambda server: True)
    monkeypatch.setattr(wandb, "init", lambda **arguments: seen.update(arguments) or Resumed())
    into = logger("wandb")
    into.start(a_run())
    for step in (5, 10, 15):
        into.log(step, step * 64, ROWS)
    into.finish("failed")
    assert seen["logged"] == [(15, {"tokens": 15 * 64, **NAMES})]
    assert (seen["resume"], seen["id"], seen["exit_code"]) == ("allow", run_id(a_run()), 1)
    assert "mode" not in seen
    assert seen["config"] == a_run().model_dump(mode="json")


@pytest.mark.parametrize("network", ["refuses", "is silent"])
def test_wandb_without_a_network_logs_offline_at_once_and_prints_nothing_on_stdout(
    network: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb = pytest.importorskip("wandb")
    over = threading.Event()

    def urlopen(server: str, timeout: float) -> None:
        over.wait(60 if network == "is silent" else 0)
        raise ConnectionRefusedError

    seen: dict[str, Any] = {}
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://{network.replace(' ', '-')}.invalid")
    monkeypatch.setattr(_loggers, "urlopen", urlopen)
    monkeypatch.setattr(_loggers, "_ANSWER", 0.1)
    monkeypatch.setattr(wandb, "init", lambda **arguments: print("chatter") or seen.update(arguments))
    with pytest.warns(UserWarning, match="does not answer, so it logs offline"):
        logger("wandb").start(a_run())
    over.set()
    assert seen["mode"] == "offline"
    assert capsys.readouterr().out == ""


def test_trackio_goes_on_with_one_run(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    result = sessions("trackio", {"TRACKIO_DIR": str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert "failed and is off" not in result.stderr
    with sqlite3.connect(tmp_path / "mechdistill.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
    database.close()
    assert [(name, step) for name, step, _ in rows] == [
        (f"micro/spt/seed-0 {run_id(a_run())}", step) for step in (0, 5, 10, 15)
    ]
    assert json.loads(rows[1][2]) == {"tokens": 320, **NAMES}


class Flaky:
    """Works until it is asked `breaks`, and remembers what it was asked."""

    def __init__(self, breaks: str):
        self.breaks, self.asked = breaks, list[str]()

    def start(self, *_: object) -> None:
        self._do("start")

    def log(self, step: int, *_: object) -> None:
        self._do(f"log {step}")

    def finish(self, *_: object) -> None:
        self._do("finish")

    def _do(self, what: str) -> None:
        self.asked.append(what)
        if what == self.breaks:
            raise ConnectionError("no route\nto host")


@pytest.mark.parametrize("breaks", ["start", "log 0", "log 5", "finish"])
def test_a_failing_logger_is_off_after_one_line_and_the_run_goes_on(
    breaks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(breaks)
    monkeypatch.setitem(LOGGERS, "wandb", lambda: flaky)
    into = logger("wandb")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        into.start(a_run())
        into.log(0, 0, ROWS)
        into.log(5, 320, ROWS)
        into.finish("finished")
    order = ["start", "log 0", "log 5", "finish"]
    assert flaky.asked == order[: order.index(breaks) + 1]
    (warning,) = caught
    assert str(warning.message) == "logger 'wandb' failed and is off; the run goes on (no route to host)"


def test_a_logger_leaves_all_random_states_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))

    def states() -> tuple[Any, ...]:
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist(), torch.get_num_threads()

    before = states()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        into = logger("wandb")
        into.start(a_run())
        into.log(0, 0, ROWS)
        into.finish("finished")
    assert states() == before


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_loggers, "find_spec", lambda name: None)
    for name in LOGGERS:
        with pytest.raises(MechdistillError) as error:
            logger(name)
        assert f"pip install mechdistill[{name}]" in str(error.value)


def test_an_unknown_logger_is_refused() -> None:
    with pytest.raises(MechdistillError, match="logger 'wanbd': no such logger; did you mean 'wandb'"):
        logger("wanbd")


def test_loggers_are_imported_when_they_start_and_not_before() -> None:
    code = (
        "import sys\nfrom mechdistill.training._loggers import logger\n"
        "for name in ('wandb', 'trackio'): logger(name)\nassert 'trackio' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
