"""Whatever the calling session has set, the same bits: files of runs, models and tables."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import backends
from torch.nn.attention import SDPBackend, sdpa_kernel

import mechdistill as md
from mechdistill.ambient import _SETTINGS, neutral
from mechdistill.runs import Experiment
from mechdistill.training import train
from tests.helpers import copied, micro, only


@contextmanager
def during(setter: Callable[[Any], Any], value: Any, before: Any) -> Iterator[None]:
    setter(value)
    try:
        yield
    finally:
        setter(before)


def bf16(value: str) -> None:
    backends.mkldnn.matmul.fp32_precision = value  # type: ignore[attr-defined]


@contextmanager
def everything() -> Iterator[None]:
    """All at once, the way a notebook or somebody else's test leaves them."""
    with (
        during(torch.set_default_dtype, torch.float64, torch.float32),
        during(torch.set_num_threads, 2, 1),
        during(bf16, "bf16", "none"),
        during(torch.set_flush_denormal, True, False),
        during(torch.use_deterministic_algorithms, True, False),
        during(torch.set_grad_enabled, False, True),
        torch.device("meta"),
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.inference_mode(),
        sdpa_kernel(SDPBackend.MATH),
        torch.autograd.set_detect_anomaly(True),
        np.errstate(all="raise"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        yield


def state() -> list[Any]:
    grad = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_device())
    return [setting.get() for setting in _SETTINGS] + [*grad, np.geterr()]


def test_everything_is_put_aside_and_back() -> None:
    fresh = state()
    with everything():
        before = state()
        assert sum(a != b for a, b in zip(before, fresh, strict=True)) >= 11, "the test sets too little"
        with neutral():
            assert state() == [setting.neutral for setting in _SETTINGS] + [
                True,
                False,
                torch.device("cpu"),
                {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
            ]
        assert state() == before
        with pytest.raises(KeyError), neutral():
            raise KeyError
        assert state() == before
    assert state() == fresh
    with during(torch.set_float32_matmul_precision, "medium", "highest"):  # the earlier of torch's two ways
        with neutral():
            assert backends.mkldnn.matmul.fp32_precision == "ieee"  # type: ignore[attr-defined]
        assert torch.get_float32_matmul_precision() == "medium"


def contents(path: Path) -> dict[str, str]:
    """SHA-256 of all files that say what was computed."""
    kept = [*path.rglob("*.safetensors"), *path.rglob("*.jsonl"), *path.rglob("*.parquet")]
    return {str(file.relative_to(path)): hashlib.sha256(file.read_bytes()).hexdigest() for file in kept}


def test_training_measuring_and_opening_give_the_same_bits(trained: Experiment, tmp_path: Path) -> None:
    """`trained` was trained without any of this."""
    fresh = Experiment(copied(trained.path, tmp_path / "fresh"))
    expected = [md.induction_scores(fresh), md.row_curves(fresh)]
    with everything():
        train(micro(), tmp_path / "x")
        experiment = md.load(tmp_path / "x")
        assert isinstance(experiment, Experiment)
        found = [md.induction_scores(experiment), md.row_curves(experiment)]
        model = experiment.run("spt/seed-0").model()
        digest = experiment.run("spt/seed-0").weights_digest()
    assert contents(tmp_path / "x") == contents(fresh.path)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.to_csv() == theirs.to_csv()
    assert digest == trained.run("spt/seed-0").weights_digest()
    assert {(p.dtype, p.is_inference(), p.device.type) for p in model.parameters()} == {(torch.float32, False, "cpu")}
    assert np.isfinite(model(torch.tensor([[1, 2]])).numpy()).all()


def test_training_warns_of_nothing(tmp_path: Path) -> None:
    """So that a session that makes errors of warnings loses nothing by their not being errors in training."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(micro(arms=only({"spt": {}}), training={"tokens": 16 * 4 * 4}), tmp_path / "x")
    assert not caught


def test_a_resumed_run_and_its_branches_are_equal_to_the_byte(tmp_path: Path) -> None:
    """Also what a trunk stores for its branches, which says nothing of the wall clock."""
    trunk = {"training": {"schedule": "trunk", "branches": [16 * 4 * 12]}}
    config = micro(arms=only({"t": trunk, "dpt": {"alpha": 0.9, "teacher": "young"}}))
    train(config, tmp_path / "whole")
    for _ in range(30):
        count = iter(range(7))
        states = {o.state for o in train(config, tmp_path / "parts", stopped=lambda c=count: next(c, None) is None)}
        if states == {"finished"}:
            break
    assert states == {"finished"}
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert any("branches" in name for name in contents(tmp_path / "whole"))
