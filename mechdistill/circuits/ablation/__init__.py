"""Knocking heads out: what stands in their place (`ABLATIONS`), what is knocked out (`targets`), and what it costs."""

from mechdistill.circuits.ablation import _targets as targets
from mechdistill.circuits.ablation._controls import (
    Edits,
    Stream,
    clean_streams,
    displaced,
    moment,
    random_subspace,
    removed,
)
from mechdistill.circuits.ablation._damage import (
    FULL,
    MODES,
    PATTERN_PRESERVING,
    KnockedOut,
    Mode,
    ablated,
    clean_outputs,
    clean_patterns,
    damaged,
)
from mechdistill.circuits.ablation._effects import EFFECTS
from mechdistill.circuits.ablation._fast import Task, losses
from mechdistill.circuits.ablation._kinds import ABLATIONS, MEAN, RESAMPLE, ZERO, Ablation
from mechdistill.circuits.ablation._sweep import ablate, replaced

__all__ = [
    "ABLATIONS",
    "EFFECTS",
    "FULL",
    "MEAN",
    "MODES",
    "PATTERN_PRESERVING",
    "RESAMPLE",
    "ZERO",
    "Ablation",
    "Edits",
    "KnockedOut",
    "Mode",
    "Stream",
    "Task",
    "ablate",
    "ablated",
    "clean_outputs",
    "clean_patterns",
    "clean_streams",
    "damaged",
    "displaced",
    "losses",
    "moment",
    "random_subspace",
    "removed",
    "replaced",
    "targets",
]
