"""What is knocked out: single heads, sets of them, and the controls of each half of the copy circuit."""

import itertools
from dataclasses import dataclass

from mechdistill.circuits._heads import CopyCircuit, Head, HeadSet

N_STRONGEST = 4
"""Heads that are knocked out in pairs, and one after the other until so many are gone."""


@dataclass(frozen=True)
class Target:
    """A set of heads; `name` stands in the column `what`, a control's after a colon."""

    name: str
    label: str


HEAD = Target("head", "single heads")
PAIR = Target("pair", "pairs of heads")
LOOKUP = Target("lookup", "lookup heads, jointly")
PREVIOUS_TOKEN = Target("previous-token", "previous-token heads, jointly")
CIRCUIT = Target("circuit", "whole copy circuit")
TOP = tuple(Target(f"top-{n}", f"top {n} by trigger lookup") for n in range(1, N_STRONGEST + 1))
"""The first n heads by the score that ranks heads."""
OUTSIDE = Target("outside", "… as many other heads")
REMOVED = Target("removed subspace", "… as much lost at random")
ROTATED = Target("rotated edit", "… as large an edit, nothing lost")

HALVES = (LOOKUP, PREVIOUS_TOKEN)
CONTROLS = (OUTSIDE, REMOVED, ROTATED)


def control(of: Target, kind: Target) -> str:
    """The name of a half's control."""
    return f"{of.name}: {kind.name}"


LABELS: dict[str, str] = {
    name: label
    for number, half in enumerate(HALVES)
    # spaces at the end keep the two halves' controls apart on an axis
    for name, label in ((half.name, half.label), *((control(half, c), c.label + " " * number) for c in CONTROLS))
} | {target.name: target.label for target in (CIRCUIT, *TOP)}
"""Every set that has a name of its own, in the order of figures."""


def pairs(circuit: CopyCircuit, ranked: HeadSet) -> list[HeadSet]:
    """Pairs among the circuit's strongest heads, at most four: lookup heads by rank, room left for one that feeds them.

    Where the circuit has fewer, the next by rank fill up, so that heads of the circuit are paired with bystanders too.
    Without a circuit there are no pairs.
    """
    if not circuit.heads:
        return []
    by_rank = [head for head in ranked if head in circuit.lookup]
    lookup = [*by_rank, *(head for head in circuit.lookup if head not in by_rank)]
    feeding = [head for head in circuit.previous_token if head not in lookup]
    kept = lookup[: N_STRONGEST - len(feeding[:1])]
    wanted = dict.fromkeys([*kept, *feeding, *lookup, *ranked])
    return [tuple(sorted(pair)) for pair in itertools.combinations(list(wanted)[:N_STRONGEST], 2)]


def tops(ranked: HeadSet) -> list[tuple[Target, HeadSet]]:
    """The first 1, 2, ... heads by rank."""
    return [(target, tuple(sorted(ranked[:n]))) for n, target in enumerate(TOP, start=1) if n <= len(ranked)]


def outside(every: HeadSet, heads: HeadSet, circuit: CopyCircuit, at_most: int) -> list[HeadSet]:
    """Sets of as many heads, in the same layers, that belong to no half of the circuit."""
    layers = {head.layer for head in heads}
    others: list[Head] = [head for head in every if head.layer in layers and head not in circuit.heads]
    return list(itertools.islice(itertools.combinations(others, len(heads)), at_most))
