"""Students that begin at a checkpoint: its weights, sequences that it has not seen, and resuming to the bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mechdistill.config import expand
from mechdistill.errors import MechdistillError
from mechdistill.model import build
from mechdistill.runs import Run
from mechdistill.sandbox import Sandbox
from mechdistill.training import train
from tests.helpers import merged, micro, only

_WARM: dict[str, Any] = {"init": {"arm": "spt", "step": 12}, "training": {"tokens": 16 * 4 * 6, "warmup": 0}}


def warm(**changes: Any) -> Any:
    arms = only({"on": merged(_WARM, changes), "spt": {}})
    teachers = only(oracle={"kind": "oracle"}) if "teacher" in changes else only()
    return micro(arms=arms, teachers=teachers, training={"weight_decay": 0.0})


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_the_first_step_is_one_of_plain_pytorch_from_the_checkpoint(tmp_path: Path, alpha: float) -> None:
    taught: dict[str, Any] = {"alpha": alpha, "teacher": "oracle"} if alpha else {}
    outcomes = train(warm(training={"schedule": "constant"}, **taught), tmp_path)
    assert {outcome.state for outcome in outcomes} == {"finished"}
    source, run = Run(tmp_path / "spt/seed-0"), Run(tmp_path / "on/seed-0")
    assert run.weights_digest(0) == source.weights_digest(12)
    assert source.weights_digest(12) in run.provenance["conditions"]["start"]

    sandbox, training = Sandbox(run.config.sandbox), run.config.training
    model = build(run.config.model, d_vocab=12, n_ctx=16, init_seed=77)
    model.load_state_dict(source.weights(12))
    sequences = sandbox.sequences(0, 12 * 4, 4)  # the first that spt had not seen by then
    optimiser = torch.optim.AdamW(model.parameters(), training.lr, training.betas, weight_decay=0.0)
    logits = model(sequences[:, :-1])
    loss = (1 - alpha) * torch.nn.functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())
    law = sandbox.law(sequences[:, :-1])
    surprise = (law - logits.log_softmax(-1)).masked_fill(law == -torch.inf, 0.0)
    (loss + alpha * (law.exp() * surprise).sum(-1).mean()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    for name, tensor in run.weights(1).items():
        torch.testing.assert_close(tensor, model.state_dict()[name], rtol=0, atol=1e-6)


def test_an_earlier_run_is_a_start_too_and_resuming_is_exact(tmp_path: Path) -> None:
    train(micro(arms=only(spt={}), teachers=only()), tmp_path / "first")
    init = {"run": str(tmp_path / "first/spt/seed-0"), "step": "last", "data": "again"}
    config = micro(arms=only(on={"init": init}), teachers=only())
    count = iter(range(100))
    train(config, tmp_path / "cut", stopped=lambda: next(count) >= 9)
    assert Run(tmp_path / "cut/on/seed-0").status["state"] == "interrupted"
    train(config, tmp_path / "cut")
    train(config, tmp_path / "whole")
    cut, whole = (Run(tmp_path / name / "on/seed-0") for name in ("cut", "whole"))
    assert cut.steps == whole.steps
    assert [cut.weights_digest(step) for step in cut.steps] == [whole.weights_digest(step) for step in whole.steps]
    with pytest.raises(MechdistillError, match="step=7: there is no checkpoint; the nearest is"):
        train(micro(arms=only(on={"init": init | {"step": 7}}), teachers=only()), tmp_path / "none")
    with pytest.raises(MechdistillError, match=r"has model.d_model=16, the student 32"):
        train(micro(arms=only(on={"init": init}), teachers=only(), model={"d_model": 32}), tmp_path / "wide")


def test_an_arm_comes_after_the_one_that_it_begins_at() -> None:
    runs = [str(run.path) for run in expand(warm())]
    assert runs == ["spt/seed-0", "on/seed-0"]
    assert [str(path) for path in expand(warm())[1].needs] == ["spt/seed-0"]


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ({}, "arms.on.init.arm: missing; name an arm"),
        ({"arm": "spt", "run": "x"}, "given beside run"),
        ({"arm": "sptt"}, "must name another arm of this experiment"),
        ({"arm": "on"}, r"begins at itself \(on -> on\)"),
        ({"arm": "spt", "step": 25}, "must be at most its 24 steps"),
    ],
)
def test_what_is_no_start_is_refused_beforehand(init: dict[str, Any], message: str) -> None:
    with pytest.raises(MechdistillError, match=message):
        micro(arms=only({"spt": {}, "on": {"init": init}}), teachers=only())
