"""The run directory: write, read, lock, query, copy. It knows nothing of what is measured.

Names are imported when first used: a query over many runs needs no torch and should not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechdistill.runs._copy import copy_run
    from mechdistill.runs._files import remove_leftovers, write_text
    from mechdistill.runs._layout import CONFIG, EXPERIMENT, FIGURES
    from mechdistill.runs._lock import exclusive
    from mechdistill.runs._numerics import numerics
    from mechdistill.runs._query import list_runs, sql
    from mechdistill.runs._read import Experiment, Run, Step, load
    from mechdistill.runs._tables import Measured
    from mechdistill.runs._weights import Weights
    from mechdistill.runs._where import check_directory, quoted
    from mechdistill.runs._words import network, teachers, treatment, world
    from mechdistill.runs._writer import RunWriter

_HOMES = {
    "CONFIG": "_layout",
    "EXPERIMENT": "_layout",
    "FIGURES": "_layout",
    "Experiment": "_read",
    "Measured": "_tables",
    "Run": "_read",
    "RunWriter": "_writer",
    "Step": "_read",
    "Weights": "_weights",
    "check_directory": "_where",
    "copy_run": "_copy",
    "exclusive": "_lock",
    "list_runs": "_query",
    "load": "_read",
    "network": "_words",
    "numerics": "_numerics",
    "quoted": "_where",
    "remove_leftovers": "_files",
    "sql": "_query",
    "teachers": "_words",
    "treatment": "_words",
    "world": "_words",
    "write_text": "_files",
}

__all__ = [
    "CONFIG",
    "EXPERIMENT",
    "FIGURES",
    "Experiment",
    "Measured",
    "Run",
    "RunWriter",
    "Step",
    "Weights",
    "check_directory",
    "copy_run",
    "exclusive",
    "list_runs",
    "load",
    "network",
    "numerics",
    "quoted",
    "remove_leftovers",
    "sql",
    "teachers",
    "treatment",
    "world",
    "write_text",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mechdistill.runs' has no attribute '{name}'")
    return getattr(import_module(f"mechdistill.runs.{_HOMES[name]}"), name)
