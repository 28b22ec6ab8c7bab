"""Measures of mechanism: head scores and ablations. Pure functions of a model, a sandbox and a generator."""

from mechdistill.circuits._ablation import ABLATIONS, ablate, ablated, clean_outputs, displaced
from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet, copy_circuit, names, parse_head, standouts
from mechdistill.circuits._scores import SCORES, Score, attention_patterns, attention_to, head_scores

__all__ = [
    "ABLATIONS",
    "SCORES",
    "CopyCircuit",
    "Head",
    "HeadSet",
    "Score",
    "ablate",
    "ablated",
    "attention_patterns",
    "attention_to",
    "clean_outputs",
    "copy_circuit",
    "displaced",
    "head_scores",
    "names",
    "parse_head",
    "standouts",
]
