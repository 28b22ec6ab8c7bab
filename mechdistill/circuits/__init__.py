"""Measures of mechanism: head scores and ablations. Pure functions of a hooked model, a world and a generator."""

from mechdistill.circuits._crossed import Crossed, crossed
from mechdistill.circuits._foreign import open_bridge
from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet, copy_circuit, names, parse_head, standouts
from mechdistill.circuits._matching import Shapes, Similarity, match_heads, matches, shapes
from mechdistill.circuits._matrices import ov_matrix, qk_matrix, require_fixed_matching
from mechdistill.circuits._measures import (
    measure_ablation,
    measure_circuits,
    measure_foreign,
    measure_scores,
    with_untrained_twin,
)
from mechdistill.circuits._probes import Probe, Probes, probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits._wiring import wiring
from mechdistill.circuits.ablation import (
    ABLATIONS,
    Ablation,
    ablate,
    ablated,
    clean_outputs,
    clean_patterns,
    replaced,
    targets,
)
from mechdistill.circuits.scores import (
    SCORES,
    Score,
    Scored,
    attention_score,
    attention_to,
    foreign_scores,
    head_score,
    head_scores,
    ranking,
)

__all__ = [
    "ABLATIONS",
    "SCORES",
    "Ablation",
    "CopyCircuit",
    "Crossed",
    "Head",
    "HeadSet",
    "HeadView",
    "Probe",
    "Probes",
    "Score",
    "Scored",
    "Shapes",
    "Similarity",
    "ablate",
    "ablated",
    "attention_score",
    "attention_to",
    "clean_outputs",
    "clean_patterns",
    "copy_circuit",
    "crossed",
    "foreign_scores",
    "head_score",
    "head_scores",
    "match_heads",
    "matches",
    "measure_ablation",
    "measure_circuits",
    "measure_foreign",
    "measure_scores",
    "names",
    "open_bridge",
    "ov_matrix",
    "parse_head",
    "probes",
    "qk_matrix",
    "ranking",
    "replaced",
    "require_fixed_matching",
    "shapes",
    "standouts",
    "targets",
    "wiring",
    "with_untrained_twin",
]
