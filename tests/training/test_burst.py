"""Bursts of checkpoints, held against a run that stores every tenth step anyway."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mechdistill.config import ExperimentConfig, expand
from mechdistill.errors import MechdistillError
from mechdistill.runs import Run
from mechdistill.tables import LATER, metrics, pick
from mechdistill.training import estimate, train
from tests.helpers import micro, only
from tests.training.test_training import fingerprints, of_runs, opened, start_in_the_background, states
from tests.training.test_until import accuracy

CHANGE = 0.1
EVERY, LOOK, REGULAR, STEPS = 10, 50, 200, 700


def forming(checkpoint_every: int = REGULAR, **training: Any) -> ExperimentConfig:
    """One run in whose few hundred steps copying forms."""
    about = {"tokens": 16 * 4 * STEPS, "evaluate_every": LOOK, "checkpoint_every": checkpoint_every, "lr": 1e-2}
    return micro(arms=only({"spt": {}}), teachers=only({}), training={**about, **training})


def bursting(**changes: Any) -> ExperimentConfig:
    return forming(burst={"every": EVERY, "change": CHANGE}, **changes)


@pytest.fixture(scope="module")
def bursts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("burst") / "x"
    assert states(train(bursting(), out)) == {"finished"}
    return out


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("dense") / "x"
    train(forming(EVERY), out)
    return opened(out).run("spt/seed-0")


def always(run: Run) -> set[int]:
    """What a run stores without a burst."""
    return {0, *(2**k for k in range(10)), *range(0, STEPS + 1, run.config.training.checkpoint_every), STEPS}


def test_a_burst_stores_every_tenth_step_of_the_windows_in_which_copying_moved(bursts: Path, dense: Run) -> None:
    run = opened(bursts).run("spt/seed-0")
    curve = pick(run.metrics(), metrics.COPY_ACCURACY, LATER).set_index("step")["value"]
    moved = [end for end in range(LOOK, STEPS + 1, LOOK) if abs(curve[end] - curve[end - LOOK]) >= CHANGE]
    assert 1 <= len(moved) < STEPS // LOOK, "copying forms, and not all the time"
    inside = {step for end in moved for step in range(end - LOOK + EVERY, end + 1, EVERY)}
    assert set(run.steps) == always(run) | inside
    for step in inside | {STEPS}:
        assert run.weights_digest(step) == dense.weights_digest(step), "the weights of that step, and no bit changed"


def test_formation_is_resolved_to_ten_steps(bursts: Path, dense: Run) -> None:
    run, asked = opened(bursts).run("spt/seed-0"), 0.5
    formed = next(step for step in dense.steps if step % EVERY == 0 and accuracy(dense, step) >= asked)
    assert next(step for step in run.steps if accuracy(run, step) >= asked) == formed
    assert {formed - EVERY, formed} <= set(run.steps)
    assert {formed - EVERY, formed} - always(run), "without the burst it was not"


@pytest.mark.parametrize("session", [37, 149])
def test_interrupted_inside_a_window_it_stores_the_same(bursts: Path, tmp_path: Path, session: int) -> None:
    for _ in range(STEPS):
        left = iter(range(session))
        outcomes = train(bursting(), tmp_path / "x", stopped=lambda left=left: next(left, None) is None)
        if states(outcomes) == {"finished"}:
            break
    assert fingerprints(tmp_path / "x") == fingerprints(bursts)


def test_killed_and_rerun_it_stores_the_same(bursts: Path, tmp_path: Path) -> None:
    """From a state in mid-window: 75 is no multiple of 50."""
    config = bursting(checkpoint_every=75)
    train(config, tmp_path / "unbroken")
    out = tmp_path / "killed"
    process = start_in_the_background(config, out, 1)
    deadline = time.monotonic() + 60
    while len(of_runs(out, "checkpoints/*225.safetensors")) == 0 and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert opened(out).run("spt/seed-0").status["state"] == "interrupted"
    assert states(train(config, out)) == {"finished"}
    assert fingerprints(out) == fingerprints(tmp_path / "unbroken")
    assert opened(out).run("spt/seed-0").weights_digest() == opened(bursts).run("spt/seed-0").weights_digest()


def test_a_branch_has_windows_of_its_own(tmp_path: Path) -> None:
    """It leaves its trunk in mid-window, and stores nothing of the trunk's."""
    branches = [16 * 4 * 520]
    config = bursting(schedule="trunk", branches=branches, anneal=0.45)
    assert states(train(config, tmp_path / "x")) == {"finished"}
    branch = opened(tmp_path / "x").run(f"spt-at-{branches[0]}/seed-0")
    start = branch.config.branch.start if branch.config.branch else 0
    assert start % EVERY
    assert branch.steps[0] == start


def test_what_it_would_cost_is_no_less_than_what_it_costs(bursts: Path) -> None:
    run = opened(bursts).run("spt/seed-0")
    one = sum(4 * tensor.numel() for tensor in run.weights().values())
    assert estimate(bursting(), expand(bursting()), 1).bytes >= one * len(run.steps)
    assert estimate(forming(), expand(forming()), 1).bytes < one * len(run.steps)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"burst": {"every": 50}}, "burst.every=50: must be below evaluate_every=50"),
        ({"burst": {"every": 10}, "checkpoint_every": 10}, "burst.every=10: must be below checkpoint_every=10"),
        ({"burst": {"every": 0}}, "burst.every"),
        ({"burst": {"change": 0.0}}, "burst.change"),
    ],
)
def test_a_burst_without_effect_is_refused(training: dict[str, Any], message: str) -> None:
    with pytest.raises(MechdistillError, match=message):
        forming(**training)


def test_a_burst_where_nothing_can_be_copied_is_refused() -> None:
    with pytest.raises(MechdistillError, match=r"arms.spt.training.burst: has no effect in a world without triggers"):
        micro(
            sandbox={"triggers": {"count": 0}},
            training={"burst": {"every": 2}},
            teachers=only({}),
            arms=only({"spt": {}}),
        )
