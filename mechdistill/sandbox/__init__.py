"""The synthetic bigram world: transition matrices, sampler, exact oracle, labels, in-context tasks."""

from mechdistill.sandbox._corpus import pinned
from mechdistill.sandbox._data import CHUNK, TrainingData
from mechdistill.sandbox._exposure import Estimate
from mechdistill.sandbox._labels import SandboxLabels
from mechdistill.sandbox._tasks import PromptKind, Prompts, prompts
from mechdistill.sandbox._world import Sandbox

__all__ = [
    "CHUNK",
    "Estimate",
    "PromptKind",
    "Prompts",
    "Sandbox",
    "SandboxLabels",
    "TrainingData",
    "pinned",
    "prompts",
]
