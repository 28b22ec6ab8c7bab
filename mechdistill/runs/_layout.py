"""Where things lie in a run directory, and what makes a directory a run or an experiment."""

import re
from pathlib import Path

EXPERIMENT = "experiment.yaml"
CHECKS = "checks.parquet"
CONFIG = "config.yaml"
STATUS = "status.json"
PROVENANCE = "provenance.json"
METRICS_LOG = "metrics.jsonl"
METRICS = "metrics.parquet"
TARGETS = "targets.parquet"
RESUME = "resume/state.safetensors"
FIGURES = "figures"

_CHECKPOINT = re.compile(r"step-(\d{8})\.safetensors")


def checkpoint_path(run: Path, step: int) -> Path:
    """The weights after `step` optimiser steps."""
    return run / "checkpoints" / f"step-{step:08d}.safetensors"


def branch_path(run: Path, step: int) -> Path:
    """All that a branch needs to leave this trunk after `step` steps."""
    return run / "branches" / f"step-{step:08d}.safetensors"


def checkpoint_steps(run: Path) -> list[int]:
    """Steps that have a checkpoint, ascending."""
    names = (path.name for path in (run / "checkpoints").glob("step-*.safetensors"))
    return sorted(int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name)))


def is_trained(run: Path) -> bool:
    """Whether anything lies there that training made: a checkpoint, or metrics."""
    return any((run / name).exists() for name in (METRICS, METRICS_LOG)) or bool(checkpoint_steps(run))
