"""The run directory: write, read, lock. It knows nothing of what is measured."""

from mechdistill.runs._files import remove_leftovers, write_text
from mechdistill.runs._layout import CONFIG, EXPERIMENT, FIGURES
from mechdistill.runs._lock import exclusive
from mechdistill.runs._numerics import numerics
from mechdistill.runs._read import Experiment, Run, Step, load
from mechdistill.runs._writer import RunWriter

__all__ = [
    "CONFIG",
    "EXPERIMENT",
    "FIGURES",
    "Experiment",
    "Run",
    "RunWriter",
    "Step",
    "exclusive",
    "load",
    "numerics",
    "remove_leftovers",
    "write_text",
]
