"""How each arm of an experiment looks, the same in every figure that shows it.

Colours are at least 3:1 against white and apart for readers of every kind of colour vision; dashes and markers tell
arms apart in grey. The study's usual arms have looks of their own, which no other arm ever takes.
"""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from mechdistill.config import TEACHER_ARM
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
_RESERVED = ("#0072B2", "#D55E00", "#998B54", "#1B1B1B", "#00966F", "#CC6FA8", "#4B1F86", "#6E1A10")
_FURTHER = ("#00616B", "#8A5FD0", "#6F7D12", "#3A8FC7")
_GREYS = ("#595959", "#767676", "#8C8C8C")  # of teachers
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


class Look(NamedTuple):
    """An arm's colour, the dash of its lines and the symbol of its points, in plotly's words."""

    colour: str
    dash: str
    symbol: str


def arm_colours(arms: Iterable[str]) -> dict[str, Look]:
    """The look of every arm of an experiment, no two alike.

    Give all arms of the experiment, in its order, whichever of them a figure shows: an arm that the study does not name
    gets the next look that is left, so that it keeps it in every figure, and when arms are added behind it.
    """
    looks: dict[str, Look] = {}
    others, teachers = len(_KNOWN), 0
    for arm in dict.fromkeys(arms):
        if arm.startswith(TEACHER_ARM):
            looks[arm] = _look(_GREYS, teachers)
            teachers += 1
        elif arm in _KNOWN:
            looks[arm] = _look(_RESERVED + _FURTHER, _KNOWN.index(arm))
        else:
            looks[arm] = _look(_RESERVED + _FURTHER, others)
            others += 1
    return looks


def looks(table: pd.DataFrame) -> dict[str, Look]:
    """The look of each arm in a table, among all arms of its experiment."""
    whole = arm_colours(arms_of(table))
    return {arm: whole[arm] for arm in dict.fromkeys(map(str, table["arm"]))}


def _look(colours: tuple[str, ...], slot: int) -> Look:
    """A slot's look: each time that colours come round again the dash moves on, and when all pairs are used, the
    symbol."""
    turn, place = divmod(slot, len(colours))
    return Look(
        colours[place],
        _DASHES[(place + turn) % len(_DASHES)],
        _SYMBOLS[(slot + turn // len(_DASHES)) % len(_SYMBOLS)],
    )
