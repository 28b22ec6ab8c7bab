"""Teachers that stop where they are told to: held against checkpoints, looked at by hand."""

from pathlib import Path

import pytest
import torch

from mechdistill.config import ExperimentConfig
from mechdistill.runs import Run
from mechdistill.sandbox import Sandbox
from mechdistill.tables import LATER, metrics, pick
from mechdistill.training import train
from tests.helpers import micro, only
from tests.training.test_training import fingerprints, opened, states

ASKED = 0.4


def half_formed() -> ExperimentConfig:
    """Evaluated far too seldom to stop near anything; a checkpoint every fourth step."""
    about = {"tokens": 16 * 4 * 600, "evaluate_every": 1000, "checkpoint_every": 4}
    return micro(
        arms=only({"dpt": {"alpha": 0.9, "teacher": "young"}}),
        teachers={"young": {"until": {"copy-accuracy": ASKED}, "training": about}},
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("until") / "x"
    assert states(train(half_formed(), out)) == {"finished"}
    return out


@torch.no_grad()
def accuracy(run: Run, step: int) -> float:
    """At second and later occurrences of triggers in 1024 held-out sequences, counted one by one."""
    world = Sandbox(run.config.sandbox)
    batch = world.evaluation(1024)
    guesses = run.model(step)(batch.tokens).argmax(dim=-1)
    hits: list[bool] = []
    for tokens, following, guessed, triggers in zip(
        batch.tokens.tolist(), batch.next_tokens.tolist(), guesses.tolist(), batch.triggers.tolist(), strict=True
    ):
        for i, token in enumerate(tokens):
            if triggers[token] and token in tokens[:i]:
                hits.append(guessed[i] == following[i])
    return sum(hits) / len(hits)


def test_a_teacher_stops_at_the_first_step_that_reaches_its_until(unbroken: Path) -> None:
    run = opened(unbroken).run("teachers/young/seed-0")
    last = run.steps[-1]
    reached = {step: accuracy(run, step) for step in run.steps if step > last - 40 or step % 20 == 0}
    assert 50 < last < 600
    assert [step for step, value in reached.items() if value >= ASKED] == [last]
    assert reached[last] < ASKED + 0.03
    row = pick(run.metrics(), metrics.STOPPED_AT, LATER)
    assert row["step"].item() == last
    assert row["value"].item() == pytest.approx(reached[last], abs=1e-6)


def test_a_teacher_interrupted_near_its_end_stops_at_the_same_step(unbroken: Path, tmp_path: Path) -> None:
    last = opened(unbroken).run("teachers/young/seed-0").steps[-1]
    for session in (last - 23, 22):  # to where every fifth step is looked at, and to where every step is
        left = iter(range(session))
        outcomes = train(half_formed(), tmp_path / "x", stopped=lambda left=left: next(left, None) is None)
        assert outcomes[0].state == "interrupted"
    assert states(train(half_formed(), tmp_path / "x")) == {"finished"}
    assert fingerprints(tmp_path / "x") == fingerprints(unbroken)
