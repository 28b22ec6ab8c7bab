"""`schedule: trunk`: one constant-rate run, and branches that leave it to anneal."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mechdistill.config import ExperimentConfig, TrainingConfig, expand
from mechdistill.errors import MechdistillError
from mechdistill.model import build
from mechdistill.runs import Experiment, Run
from mechdistill.runs._weights import load_weights
from mechdistill.sandbox import Sandbox
from mechdistill.training import train
from mechdistill.training._optimiser import learning_rate, optimiser
from mechdistill.training._state import unpack
from tests.helpers import micro, only
from tests.training.test_training import fingerprints, opened, states

STEP = 16 * 4  # tokens


def trunk(**changes) -> ExperimentConfig:
    schedule = {"schedule": "trunk", "branches": [12 * STEP, 24 * STEP], "anneal": 0.25}
    return micro(
        teachers={"self": {"kind": "ema", "decay": 0.9}},
        arms=only(
            {
                "spt": {"training": schedule},
                "dpt": {"alpha": {"kind": "linear", "start": 0.9, "end": 0}, "teacher": "self", "training": schedule},
            }
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    out = tmp_path_factory.mktemp("trunk") / "x"
    outcomes = train(trunk(), out, jobs=2)
    assert states(outcomes) == {"finished"}, outcomes
    return opened(out)


def test_the_rate_is_constant_on_the_trunk_and_falls_to_zero_in_a_line_on_a_branch() -> None:
    config = TrainingConfig(lr=1.0, warmup=4, schedule="trunk", branches=(100,), tokens=100)
    assert [learning_rate(config, step, 20) for step in (0, 3, 4, 19)] == [0.25, 1.0, 1.0, 1.0]
    branch = [learning_rate(config, step, 20, 10) for step in range(10, 20)]
    np.testing.assert_allclose(branch, np.arange(10, 0, -1) / 10)


def test_branches_are_runs_that_end_at_their_tokens_and_leave_where_annealing_begins(whole: Experiment) -> None:
    runs = {run.name: run for run in whole.runs}
    assert set(runs) == {f"{arm}{at}/seed-0" for arm in ("spt", "dpt") for at in ("", "-at-768", "-at-1536")}
    for arm in ("spt", "dpt"):
        short, long = runs[f"{arm}-at-768/seed-0"], runs[f"{arm}-at-1536/seed-0"]
        assert (short.steps[0], short.steps[-1], long.steps[0], long.steps[-1]) == (9, 12, 18, 24)
        assert short.status["tokens"] == 768
        assert set(short.metrics()["step"]) == {9, 10, 12}
        rates = long.metrics().query("metric == 'lr'").set_index("step")["value"]
        assert rates[24] == pytest.approx(3e-3 / 6)


def test_a_branch_shares_its_trunks_checkpoint(whole: Experiment) -> None:
    for arm in ("spt", "dpt"):
        spine, branch = whole.run(f"{arm}/seed-0"), whole.run(f"{arm}-at-1536/seed-0")
        assert branch.weights_digest(18) == spine.weights_digest(18), "18 is a checkpoint of the trunk"
        assert branch.weights_digest("last") != spine.weights_digest("last")


def alone(whole: Experiment, out: Path, arm: str) -> Path:
    """A directory that holds nothing but the trunk, as if the branch had never been trained."""
    shutil.copytree(whole.path / arm, out / arm)
    shutil.copy(whole.path / "experiment.yaml", out / "experiment.yaml")
    return out


@pytest.mark.parametrize("arm", ["spt", "dpt"])
@pytest.mark.parametrize("after", [None, 3, 5])
def test_a_branch_trained_alone_from_its_trunks_checkpoint_has_the_same_bits(
    whole: Experiment, tmp_path: Path, arm: str, after: int | None
) -> None:
    """In one go, or stopped again and again."""
    out = alone(whole, tmp_path / "x", arm)
    for _ in range(40):
        count = iter(range(after or 10**6))
        if states(train(trunk(), out, stopped=lambda count=count: next(count, None) is None)) == {"finished"}:
            break
    ours, theirs = fingerprints(out), fingerprints(whole.path)
    assert ours[f"{arm}-at-768/seed-0"] == theirs[f"{arm}-at-768/seed-0"]
    assert ours[f"{arm}-at-1536/seed-0"] == theirs[f"{arm}-at-1536/seed-0"]


def test_a_branch_is_what_a_plain_loop_makes_of_the_trunks_state(whole: Experiment) -> None:
    """An independent answer: torch alone, from the stored state, on the stream where the trunk left it."""
    config = next(run for run in expand(trunk()) if run.treatment == "spt-at-1536")
    state = load_weights(whole.path / "spt/seed-0/branches/step-00000018.safetensors")
    sandbox = Sandbox(config.sandbox)
    model = build(config.model, d_vocab=12, n_ctx=16, init_seed=5)
    steps = optimiser(model, config.training)
    unpack(state.tensors, model, steps)
    for step in range(18, 24):
        sequences = sandbox.sequences(config.data_seed, step * 4, 4)
        logits = model(sequences[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in steps.param_groups:
            group["lr"] = 3e-3 * (24 - step) / 6
        steps.step()
        steps.zero_grad()
    theirs = whole.run("spt-at-1536/seed-0").model()
    for ours, found in zip(model.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours, found, rtol=1e-4, atol=1e-6)


def test_schedules_of_alpha_go_on_along_the_trunk(whole: Experiment) -> None:
    def weight(run: Run) -> dict[int, float]:
        return run.metrics().query("metric == 'distillation-weight'").set_index("step")["value"].to_dict()

    spine, branch = weight(whole.run("dpt/seed-0")), weight(whole.run("dpt-at-768/seed-0"))
    assert branch[10] == pytest.approx(spine[10]) == pytest.approx(0.9 * (1 - 10 / 24))


def test_interrupted_and_rerun_the_whole_has_the_same_bits(whole: Experiment, tmp_path: Path) -> None:
    for _ in range(60):
        count = iter(range(11))
        if states(train(trunk(), tmp_path / "x", stopped=lambda c=count: next(c, None) is None)) == {"finished"}:
            break
    assert fingerprints(tmp_path / "x") == fingerprints(whole.path)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"schedule": "trunk"}, r"arms\.spt\.training\.branches: missing"),
        ({"branches": [768]}, r"arms\.spt\.training\.branches: has no effect with schedule=cosine"),
        ({"schedule": "trunk", "branches": [10**9]}, r"branches=\[1000000000\]: must ascend, up to tokens=1536"),
        (
            {"schedule": "trunk", "branches": [64]},
            r"branches=\[64\]: the one of 64 tokens has 1 steps and would",
        ),
    ],
)
def test_trunks_that_make_no_sense_are_refused(training: dict, message: str) -> None:
    with pytest.raises(MechdistillError, match=message):
        micro(arms={"spt": {"training": training}})


def test_learning_rates_are_an_axis_of_their_own(tmp_path: Path) -> None:
    config = micro(lr_scales=[0.5, 1], arms=only({"spt": {}}))
    assert states(train(config, tmp_path / "x")) == {"finished"}
    runs = {run.name: run for run in opened(tmp_path / "x").runs}
    assert set(runs) == {"spt/seed-0", "spt-lr-x0.5/seed-0"}
    assert runs["spt-lr-x0.5/seed-0"].config.training.lr == 1.5e-3
    assert runs["spt-lr-x0.5/seed-0"].weights_digest() != runs["spt/seed-0"].weights_digest()
    with pytest.raises(MechdistillError, match=r"arms\.spt-lr-x2: is also what an arm at another rate"):
        micro(lr_scales=[2, 1], arms={"spt-lr-x2": {}})
