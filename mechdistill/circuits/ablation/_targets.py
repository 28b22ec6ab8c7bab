"""What is knocked out: single heads, halves of the copy circuit, the whole of it, and the controls of each half."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A set of heads; `name` stands in the column `what`, a control's after a colon."""

    name: str
    label: str


HEAD = Target("head", "single heads")
LOOKUP = Target("lookup", "lookup heads, jointly")
PREVIOUS_TOKEN = Target("previous-token", "previous-token heads, jointly")
CIRCUIT = Target("circuit", "whole copy circuit")
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
} | {CIRCUIT.name: CIRCUIT.label}
"""Every set by its name, in the order of figures."""
