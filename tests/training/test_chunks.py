"""What is said of objectives and teachers on an evaluation set is the same in one chunk and in many."""

from functools import partial
from typing import Any

import pandas as pd
import pytest

from mechdistill.config import RunConfig, expand
from mechdistill.positions import EvaluationSet
from mechdistill.runs import Experiment
from mechdistill.training._distillation import Distillation
from mechdistill.training._references import trained_model
from mechdistill.worlds import open_world
from tests.helpers import micro, only, transformer
from tests.training.test_distillation import OBJECTIVES, TEACHERS

SMALL = 4 * 12 * 16 * 5  # bytes: five sequences

ROUTED: dict[str, Any] = {
    f"{signal}-{scope}": {"routing": {"signal": signal, "scope": scope, "quantile": 0.15}}
    for signal in ("teacher-entropy", "student-teacher-kl", "random")
    for scope in ("sequence", "batch")
}
ROUTED["nats"] = {"routing": {"signal": "teacher-entropy", "nats": 0.3}}
MORE_TEACHERS: dict[str, Any] = {
    "drawn-top": {"kind": "top-k", "of": "drawn", "k": 1},
    "half-drawn": {"kind": "splice", "copyable": "drawn", "elsewhere": "top"},
}


def runs() -> dict[str, RunConfig]:
    arms: dict[str, Any] = {name: {"alpha": 0.9, "teacher": name} for name in (*TEACHERS, *MORE_TEACHERS)}
    arms |= {name: {"alpha": 0.9, "teacher": "drawn", **arm} for name, arm in ROUTED.items()}
    arms |= {f"objective-{name}": {"alpha": 0.9, "teacher": "young", **arm} for name, arm in OBJECTIVES.items()}
    arms["objective-matched"] = arms["objective-matched"] | {"label_smoothing": {"match": "soft"}}
    experiment = micro(teachers={**TEACHERS, **MORE_TEACHERS}, arms=only(arms))
    return {run.treatment: run for run in expand(experiment) if not run.is_teacher}


RUNS = runs()


@pytest.mark.parametrize("name", RUNS)
def test_metrics_and_targets_are_those_of_the_whole(
    name: str, trained: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = RUNS[name]
    world = open_world(config.sandbox)
    found: list[tuple[pd.DataFrame, ...]] = []
    for chunk_bytes in (2**30, SMALL):

        def held_out(world: Any, count: int, chunk_bytes: int = chunk_bytes) -> EvaluationSet:
            return EvaluationSet(world, world.evaluation(count), chunk_bytes)

        monkeypatch.setattr(EvaluationSet, "held_out", held_out)
        opened = partial(trained_model, trained.path, config)
        distillation = Distillation(config, world, world.training(0), "cpu", opened)
        data = held_out(world, 33)
        students = ((0, transformer()), (14, transformer(seed=1)))
        tables = [pd.DataFrame(distillation.evaluate(data, step, student)[1]) for step, student in students]
        targets = distillation.describe_targets(0, transformer())
        found.append((*tables, pd.DataFrame() if targets is None else targets))
    for whole, parts in zip(*found, strict=True):
        pd.testing.assert_frame_equal(parts, whole, rtol=1e-6, atol=1e-6)
