"""Knocking heads out: what stands in their place (`ABLATIONS`), what is knocked out (`targets`), and what it costs."""

from mechdistill.circuits.ablation import _targets as targets
from mechdistill.circuits.ablation._controls import Stream, clean_streams, displaced, random_subspace, removed
from mechdistill.circuits.ablation._kinds import ABLATIONS, MEAN, ZERO, Ablation
from mechdistill.circuits.ablation._sweep import ablate, ablated, clean_outputs, replaced

__all__ = [
    "ABLATIONS",
    "MEAN",
    "ZERO",
    "Ablation",
    "Stream",
    "ablate",
    "ablated",
    "clean_outputs",
    "clean_streams",
    "displaced",
    "random_subspace",
    "removed",
    "replaced",
    "targets",
]
