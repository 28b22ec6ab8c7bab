"""Training on a GPU: every teacher and objective works there, and says what it says on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mechdistill.runs import Experiment, Run
from mechdistill.tables import metrics
from mechdistill.training import train
from tests.training.test_distillation import everything
from tests.training.test_training import opened, states

STEPS = 3  # so few that rounding has no time to grow
COUNTS = (  # of positions, where one that is on the edge may fall on either side
    *(metrics.COPY_ACCURACY, metrics.TEACHER_COPY_ACCURACY, metrics.NO_MATCHING),
    *(metrics.ROUTED, metrics.ROUTING_PRECISION, metrics.ROUTING_RECALL),
)


@pytest.fixture(scope="module")
def on_both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Experiment]:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    tokens = {"tokens": 16 * 4 * STEPS, "warmup": 2, "evaluate_every": 1, "checkpoint_every": 1}
    config = everything(training=tokens)
    found: list[Experiment] = []
    for device in ("cpu", "cuda"):
        out: Path = tmp_path_factory.mktemp(device) / "x"
        outcomes = train(config, out, device=device)
        assert states(outcomes) == {"finished"}, [o for o in outcomes if o.state != "finished"]
        found.append(opened(out))
    return found[0], found[1]


def test_every_treatment_gives_the_numbers_of_the_cpu(on_both: tuple[Experiment, Experiment]) -> None:
    cpu, gpu = on_both
    assert [run.name for run in cpu.runs] == [run.name for run in gpu.runs]
    for ours, theirs in zip(cpu.runs, gpu.runs, strict=True):
        a, b = ours.metrics(), theirs.metrics()
        assert a.drop(columns="value").equals(b.drop(columns="value")), ours.name
        counts = a["metric"].isin([metric.name for metric in COUNTS])
        np.testing.assert_allclose(b["value"][~counts], a["value"][~counts], rtol=1e-4, atol=1e-4, err_msg=ours.name)
        np.testing.assert_allclose(b["value"][counts], a["value"][counts], atol=0.1, err_msg=ours.name)
        assert apart(theirs, ours) < 0.02, ours.name


def apart(one: Run, other: Run) -> float:
    """How far two runs ended from each other, over how far the second has come: no weight alone, since Adam makes steps
    of equal size of gradients that are nothing but rounding."""
    ends = [
        torch.cat([p.flatten() for p in run.model(at).parameters()]) for run, at in ((one, "last"), (other, "last"))
    ]
    start = torch.cat([p.flatten() for p in other.model(0).parameters()])
    return float((ends[0] - ends[1]).norm() / (ends[1] - start).norm())


def test_a_run_on_a_gpu_goes_on_where_it_stopped(on_both: tuple[Experiment, Experiment], tmp_path: Path) -> None:
    config = on_both[1].config
    for _ in range(200):
        left = iter(range(7))
        outcomes = train(config, tmp_path / "x", device="cuda", stopped=lambda left=left: next(left, None) is None)
        if states(outcomes) == {"finished"}:
            break
    assert states(outcomes) == {"finished"}
    for run in opened(tmp_path / "x").runs:
        assert apart(run, on_both[1].run(run.name)) < 0.02, run.name
