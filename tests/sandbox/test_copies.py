"""Whatever a user does to what a world gave out, the next measure is the same."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import mechdistill as md
from mechdistill.runs import Experiment
from mechdistill.sandbox import Sandbox, prompts
from mechdistill.world import Labels
from tests.helpers import copied, only, world


def arrays(value: Any, depth: int = 3) -> Iterator[np.ndarray | torch.Tensor]:
    """Every array and tensor in what was returned."""
    if isinstance(value, np.ndarray | torch.Tensor):
        yield value
    elif isinstance(value, tuple | list) and depth:
        for part in value:
            yield from arrays(part, depth - 1)
    elif isinstance(value, Labels):
        for name in dir(Labels):
            if not name.startswith("_"):
                yield from arrays(getattr(value, name), depth - 1)


def given_out(sandbox: Sandbox) -> Iterator[tuple[str, Any]]:
    """All that the public surface gives, by name."""
    batch = sandbox.evaluation(8)
    calls: dict[str, tuple[Any, ...]] = {
        "batch": (3, 0, 4),
        "sequences": (3, 0, 4),
        "evaluation": (8,),
        "labels": (batch.tokens.clone(), batch.triggers.clone()),
        "law": (batch.tokens.clone(),),
        "is_trigger": (batch.tokens.clone(), batch.triggers.clone()),
        "occurrence": (batch.tokens.clone(), batch.triggers.clone()),
        "no_matching_hits": (batch,),
        "training": (3,),
    }
    for name in dir(sandbox):
        if name.startswith("_"):
            continue
        value = getattr(sandbox, name)
        if callable(value):
            takes = [p for p in inspect.signature(value).parameters.values() if p.default is p.empty]
            value = value(*calls[name]) if takes else value()
        yield name, value
        if name == "training":
            yield "training().batch", value.batch(0, 8)
            yield "training(unique).batch", sandbox.training(3, 8).batch(0, 8)
    yield "evaluation.tokens", sandbox.evaluation(8).tokens
    yield "evaluation.next_tokens", sandbox.evaluation(8).next_tokens
    yield "prompts", prompts(sandbox, "copy", 4, 0)


def spoil(sandbox: Sandbox) -> list[str]:
    """Write into everything; the names of what could be written into."""
    written: list[str] = []
    for name, value in given_out(sandbox):
        for array in arrays(value):
            array[...] = 1
            written.append(name)
    return written


TRIGGERS = [{"count": 2}, {"kind": "bernoulli", "rate": 0.4, "noise": 0.1}]


@pytest.mark.parametrize("triggers", TRIGGERS)
def test_a_world_is_what_it_was_whatever_was_written_into_what_it_gave(triggers: dict[str, Any]) -> None:
    sandbox, untouched = world(triggers=only(triggers)), world(triggers=only(triggers))
    written = spoil(sandbox)
    assert {"evaluation", "evaluation.tokens", "batch", "log_pi", "law", "labels", "training().batch"} <= set(written)
    assert {"pi", "stationary", "bucket", "rate", "mean_pi", "row_entropy", "best_bigram"} <= set(written)
    again = dict(given_out(sandbox))
    for name, value in given_out(untouched):
        for ours, theirs in zip(arrays(again[name]), arrays(value), strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)


def test_measures_of_a_run_are_what_they_were(trained: Experiment, tmp_path: Path) -> None:
    mine = copied(trained.path, tmp_path / "mine")
    before = [measure(md.load(mine).run("spt/seed-0")) for measure in (md.row_curves, md.induction_scores)]
    run = md.load(mine).run("spt/seed-0")
    run.sandbox.evaluation(256).tokens[:] = 0  # README's own line, and the idiom of patching
    assert spoil(run.sandbox)
    for measure, table in zip((md.row_curves, md.induction_scores), before, strict=True):
        pd.testing.assert_frame_equal(measure(run, fresh=True), table)
