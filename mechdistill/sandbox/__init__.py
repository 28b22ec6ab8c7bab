"""The synthetic bigram world: transition matrices, sampler, exact oracle, labels, in-context tasks."""

from mechdistill.sandbox._data import TrainingData
from mechdistill.sandbox._exposure import copyable_share
from mechdistill.sandbox._labels import Batch, Labels
from mechdistill.sandbox._tasks import Prompts, prompts
from mechdistill.sandbox._world import CHUNK, N_BUCKETS, Sandbox

__all__ = ["CHUNK", "N_BUCKETS", "Batch", "Labels", "Prompts", "Sandbox", "TrainingData", "copyable_share", "prompts"]
