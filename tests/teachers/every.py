"""Every kind of teacher, built as a run builds it, and teachers with a law that a test chooses."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import TypeAdapter

from mechdistill import config, teachers
from mechdistill.model import Model
from mechdistill.sandbox import Sandbox
from mechdistill.teachers import Moment, Teacher, everyone
from mechdistill.world import Labels
from tests.helpers import only, transformer, world

WORLDS: dict[str, dict[str, Any]] = {
    "fixed": {},
    "noise": {"triggers": {"noise": 0.1}},
    "bernoulli": {"triggers": only(kind="bernoulli", rate=0.2)},
    "plain": {"triggers": {"count": 0}},
}

ENTRIES: dict[str, dict[str, Any]] = {
    "oracle": {"kind": "oracle"},
    "bigram": {"kind": "bigram"},
    "uniform": {"kind": "uniform"},
    "noisy": {"kind": "noisy", "epsilon": 0.2},
    "noisy-below": {"kind": "noisy", "of": "checkpoint", "below": 1.0},
    "count": {"kind": "count", "tokens": 100},
    "count-fresh": {"kind": "count", "tokens": 100, "data": "fresh"},
    "checkpoint": {"kind": "checkpoint"},
    "progressive": {"kind": "progressive", "of": "checkpoint"},
    "ensemble": {"kind": "ensemble", "of": ["checkpoint", "oracle", "count"]},
    "tilted": {"kind": "tilted", "beta": 0.5},
    "tilted-bigram": {"kind": "tilted", "of": "bigram", "horizon": 3},
    "ema": {"kind": "ema", "decay": 0.9},
    "splice": {"kind": "splice", "copyable": "oracle", "elsewhere": "checkpoint"},
    "permuted": {"kind": "permuted"},
    "temperature": {"kind": "temperature", "of": "oracle", "temperature": 2.0},
    "top-k": {"kind": "top-k", "of": "oracle", "k": 3},
    "top-k-bucket": {"kind": "top-k", "of": "count", "k": 3, "tail": "bucket"},
    "sampled": {"kind": "sampled", "of": "checkpoint", "n": 4},
    "nested": {"kind": "splice", "copyable": "top-k", "elsewhere": "sampled"},
}


def trained(name: str, fraction: float) -> Model:
    """A model that differs by the fraction of its training."""
    return transformer(seed=round(100 * fraction))


def built(
    name: str,
    sandbox: Sandbox | None = None,
    seed: int = 0,
    entries: dict[str, dict[str, Any]] | None = None,
    trained: Any = trained,
) -> Teacher:
    """The teacher of an entry."""
    sandbox = sandbox or world()
    definitions = TypeAdapter(dict[str, config.TeacherEntry]).validate_python(entries or ENTRIES)
    return teachers.build_teacher(name, definitions, sandbox, sandbox.training(seed), seed, trained)


_STUDENT = transformer()


def advanced(
    teacher: Teacher, step: int = 0, *, steps: int = 100, seed: int = 0, student: Model | None = None
) -> Teacher:
    """The teacher at a step, everyone it is made of called as training does."""
    for one in everyone(teacher):
        one.advance(Moment(step, steps, seed), student or _STUDENT)
    return teacher


def some_tokens(sandbox: Sandbox, count: int = 8) -> tuple[torch.Tensor, Labels]:
    """Training sequences and their labels."""
    batch = sandbox.batch(0, 0, count)
    return batch.tokens, sandbox.labels(batch.tokens, batch.triggers)


class Given(Teacher):
    """The same law everywhere."""

    entry = config.TeacherConfig

    def __init__(self, probs: Sequence[float] | torch.Tensor):
        self._law = torch.as_tensor(probs).log()
        super().__init__(self._law.numpy().tobytes())

    def log_probs(self, tokens: torch.Tensor, labels: Labels) -> torch.Tensor:
        return self._law.expand(*tokens.shape, -1)
