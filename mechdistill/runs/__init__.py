"""The run directory: write, read, lock, query, copy. It knows nothing of what is measured.

Names are imported when first used: a query over many runs needs no torch and should not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mechdistill.runs._copy import copy_run
    from mechdistill.runs._experiment import Experiment, load, opened
    from mechdistill.runs._files import is_left_over, remove_leftovers, temporary, write_bytes, write_text
    from mechdistill.runs._foreign import folder_of
    from mechdistill.runs._layout import CONFIG, EXPERIMENT, FIGURES
    from mechdistill.runs._lock import exclusive
    from mechdistill.runs._numerics import numerics
    from mechdistill.runs._query import list_runs, sql
    from mechdistill.runs._run import Run, Step
    from mechdistill.runs._same import told_by_hash
    from mechdistill.runs._tables import Measured
    from mechdistill.runs._weights import Weights
    from mechdistill.runs._where import as_argument, check_directory, is_ours
    from mechdistill.runs._words import network, teachers, treatment, world
    from mechdistill.runs._writer import RunWriter, write_checks

_HOMES = {
    "CONFIG": "_layout",
    "EXPERIMENT": "_layout",
    "FIGURES": "_layout",
    "Experiment": "_experiment",
    "Measured": "_tables",
    "Run": "_run",
    "RunWriter": "_writer",
    "Step": "_run",
    "Weights": "_weights",
    "check_directory": "_where",
    "copy_run": "_copy",
    "exclusive": "_lock",
    "folder_of": "_foreign",
    "is_left_over": "_files",
    "is_ours": "_where",
    "list_runs": "_query",
    "load": "_experiment",
    "opened": "_experiment",
    "network": "_words",
    "numerics": "_numerics",
    "as_argument": "_where",
    "remove_leftovers": "_files",
    "sql": "_query",
    "told_by_hash": "_same",
    "teachers": "_words",
    "temporary": "_files",
    "treatment": "_words",
    "world": "_words",
    "write_checks": "_writer",
    "write_bytes": "_files",
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
    "as_argument",
    "check_directory",
    "copy_run",
    "exclusive",
    "folder_of",
    "is_left_over",
    "is_ours",
    "list_runs",
    "load",
    "network",
    "numerics",
    "opened",
    "remove_leftovers",
    "sql",
    "teachers",
    "temporary",
    "told_by_hash",
    "treatment",
    "world",
    "write_bytes",
    "write_checks",
    "write_text",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mechdistill.runs' has no attribute '{name}'")
    return getattr(import_module(f"mechdistill.runs.{_HOMES[name]}"), name)
