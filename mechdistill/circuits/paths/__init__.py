"""Which head reads what which earlier head wrote, proved by patching: single edges of the network."""

from mechdistill.circuits.paths._edges import Edge, Edges, Node, Reader, edges_of
from mechdistill.circuits.paths._pairs import Pairs, minimal_pairs
from mechdistill.circuits.paths._patch import Gap, attribution, copy_gap, path_effects, path_patching

__all__ = [
    "Edge",
    "Edges",
    "Gap",
    "Node",
    "Pairs",
    "Reader",
    "attribution",
    "copy_gap",
    "edges_of",
    "minimal_pairs",
    "path_effects",
    "path_patching",
]
