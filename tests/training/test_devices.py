"""Training on a GPU: every teacher and objective works there, and says what it says on the CPU."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mechdistill.positions import EvaluationSet
from mechdistill.runs import Experiment, Run
from mechdistill.tables import metrics
from mechdistill.training import train
from mechdistill.training._distillation import Distillation
from mechdistill.training._references import trained_model
from mechdistill.worlds import open_world
from tests.helpers import transformer
from tests.teachers.test_devices import GPU, Moves, on_gpu
from tests.training.test_chunks import RUNS
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
        if any(teacher.traits.gives_labels for teacher in ours.config.teachers.values()):
            continue  # rounding of a law decides between labels here and there, and then everything differs
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
    for run in opened(tmp_path / "x").runs:  # on one device labels are drawn alike
        assert apart(run, on_both[1].run(run.name)) < 0.02, run.name


@pytest.mark.parametrize("name", sorted(RUNS))
def test_all_of_one_computation_is_on_one_device(name: str, trained: Experiment) -> None:
    """Without a GPU: the models' tensors say that they are on one, and refuse all others."""
    config = RUNS[name]
    world = open_world(config.sandbox)
    data = EvaluationSet(world, world.evaluation(12))
    found: list[tuple[torch.Tensor, list[dict[str, Any]]]] = []
    for pretend in (False, True):
        distillation = Distillation(
            config, world, world.training(0), "cpu", partial(trained_model, trained.path, config)
        )
        student, batch = transformer(seed=1), world.batch(0, 0, 4)
        if pretend:
            distillation._device = GPU
            for each in (student, *models_of(distillation._targets)):
                on_gpu(each)
        with Moves() as moves:
            logits = student(batch.tokens.to(GPU) if pretend else batch.tokens)
            moves.back = 0
            loss = distillation.loss(logits, batch, 2, student)
            assert moves.back == 0, "targets went to the CPU and back"
            rows = distillation.evaluate(data, 2, student)[1]
        found.append((loss.logged.as_subclass(torch.Tensor), rows))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def models_of(targets: Any) -> list[Any]:
    """Of checkpoint teachers; an ema teacher copies its student."""
    parts = {id(part): part for one in targets._everyone for part in (one, *one.parts)}.values()
    return [part._model for part in parts if part.kind == "checkpoint"]
