"""How each arm of an experiment looks, the same in every figure that shows it.

Dashes, markers and, on bars, patterns tell arms apart in grey. The study's usual arms have looks of their own, which
no other arm ever takes, and no student looks like a teacher.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from mechdistill.config import TEACHER_ARM
from mechdistill.plots._colours import ARMS, FURTHER, GREYS, PAPER
from mechdistill.tables import arms_of

_KNOWN = (
    "spt",
    "dpt-90",
    "dpt-50",
    "dpt-90-oracle",
    "spt-2x",
    "spt-downweight",
    "dpt-90-routed",
    "dpt-90-random-route",
)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "12px,3px,3px,3px,3px,3px", "2px,7px")
_SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "triangle-down",
    "cross",
    "x",
    "pentagon",
    "star",
    "hexagon",
    "bowtie",
    "hourglass",
)
_OF_TEACHERS = (
    ("20px,4px", "3px,3px,3px,9px", "1px,4px", "14px,3px,3px,3px,14px,9px"),
    ("triangle-left", "triangle-right", "hexagram", "star-square", "star-diamond", "octagon"),
)
_PATTERNS = tuple(
    (shape, size) for size in (7, 14, 22) for shape in ("", "/", "x", "-", "\\", "|", "+", ".") if shape or size == 7
)
"""Shapes and sizes in pixels, in the order of all symbols."""


class Look(NamedTuple):
    """An arm's colour, the dash of its lines and the symbol of its points, in plotly's words."""

    colour: str
    dash: str
    symbol: str

    @property
    def pattern(self) -> dict[str, Any]:
        """Of the arm's bars, as plotly's `marker.pattern`: one for each symbol."""
        return hatched(*_PATTERNS[(*_SYMBOLS, *_OF_TEACHERS[1]).index(self.symbol)])


def hatched(shape: str, size: int) -> dict[str, Any]:
    """Plotly's `marker.pattern` of bars in their own colour, with stripes of the page's."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": PAPER, "fgopacity": 1, "size": size, "solidity": 0.35}


def arm_colours(arms: Iterable[str]) -> dict[str, Look]:
    """The look of every arm of an experiment, no two alike.

    Give all arms of the experiment, in its order, whichever of them a figure shows: an arm that the study does not name
    gets the next look that is left, so that it keeps it in every figure, and when arms are added behind it.
    """
    looks: dict[str, Look] = {}
    others, teachers = len(_KNOWN), 0
    for arm in dict.fromkeys(arms):
        if arm.startswith(TEACHER_ARM):
            looks[arm] = _look(GREYS, teachers, *_OF_TEACHERS)
            teachers += 1
        elif arm in _KNOWN:
            looks[arm] = _look(ARMS + FURTHER, _KNOWN.index(arm))
        else:
            looks[arm] = _look(ARMS + FURTHER, others)
            others += 1
    return looks


def looks(table: pd.DataFrame) -> dict[str, Look]:
    """The look of each arm in a table, among all arms of its experiment."""
    whole = arm_colours(arms_of(table))
    return {arm: whole[arm] for arm in dict.fromkeys(map(str, table["arm"]))}


def _look(
    colours: tuple[str, ...],
    slot: int,
    dashes: tuple[str, ...] = _DASHES,
    symbols: tuple[str, ...] = _SYMBOLS,
) -> Look:
    """A slot's look: each time that colours come round again the dash moves on, and when all pairs are used, the
    symbol."""
    turn, place = divmod(slot, len(colours))
    return Look(
        colours[place],
        dashes[(place + turn) % len(dashes)],
        symbols[(slot + turn // len(dashes)) % len(symbols)],
    )
