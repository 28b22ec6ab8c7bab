"""Asking runs: a measure applied to checkpoints, arms compared over seeds, one prompt looked at."""

from mechdistill.analysis._apply import Applied, Checkpoint, measured
from mechdistill.analysis._compare import compare, outcomes
from mechdistill.analysis._progress import progress
from mechdistill.analysis._prompt import Prompt, prompt
from mechdistill.analysis._source import definitions

__all__ = [
    "Applied",
    "Checkpoint",
    "Prompt",
    "compare",
    "definitions",
    "measured",
    "outcomes",
    "progress",
    "prompt",
]
