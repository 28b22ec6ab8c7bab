"""Knocking heads out: what stands in their place (`ABLATIONS`), what is knocked out (`targets`), and what it costs."""

from mechdistill.circuits.ablation import _targets as targets
from mechdistill.circuits.ablation._kinds import ABLATIONS, MEAN, ZERO, Ablation
from mechdistill.circuits.ablation._sweep import ablate, ablated, clean_outputs, displaced, replaced

__all__ = [
    "ABLATIONS",
    "MEAN",
    "ZERO",
    "Ablation",
    "ablate",
    "ablated",
    "clean_outputs",
    "displaced",
    "replaced",
    "targets",
]
