"""Tables for a terminal of any width: a number is whole or is not there.

Where there is no room, headers break between words, then names lose their middle, then columns are left out, in the
order that a table states, and the table says so. Pure: a table and a width in, lines out.
"""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.cells import cell_len

from mechdistill.errors import visible

_GAP = "  "
_SHORT = 20  # what a shortened name keeps at least
_ELLIPSIS = "…"


class Line(NamedTuple):
    """One line for the terminal."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of text cells."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: frozenset[int] = frozenset({0})
    """Indices of columns of names, which may be shortened; all others are numbers."""
    drop: tuple[str, ...] = ()
    """Columns that are left out first where there is no room, in this order; then those from the right."""
    turn: bool = False
    """Whether it is turned on its side where that saves leaving anything out."""

    def lines(self, width: int) -> Iterator[Line]:
        """The table in at most `width` columns of the terminal, but for a single number that is wider."""
        cells = [[visible(cell) for cell in row] for row in ((*self.columns,), *self.rows)]
        columns = [_Column(i in self.texts, header, part) for i, (header, *part) in enumerate(zip(*cells, strict=True))]
        kept = list(range(len(columns)))
        if self.turn and _total(columns[i].least for i in kept) > width:
            yield from self._turned().lines(width)
            return
        while len(kept) > 1 and _total(columns[i].least for i in kept) > width:
            kept.remove(self._next_to_go(kept))
        widths = _shared([columns[i] for i in kept], width)
        if self.title:
            yield from (Line(line, bold=True) for line in _wrapped(visible(self.title), width))
        shown = [columns[i].lines(space) for i, space in zip(kept, widths, strict=True)]
        n_headers = max(len(column.header) for column in shown)
        heads = [[""] * (n_headers - len(column.header)) + column.header for column in shown]
        for line in zip(*heads, strict=True):
            yield Line(_joined(line, shown, widths), bold=True)
        for line in zip(*(column.cells for column in shown), strict=True):
            yield Line(_joined(line, shown, widths))
        if left_out := [self.columns[i] for i in range(len(columns)) if i not in kept]:
            what = "1 column" if len(left_out) == 1 else f"{len(left_out)} columns"
            note = f"({what} left out: {', '.join(left_out)}; a wider terminal or --json shows all)"
            yield from map(Line, _wrapped(note, width))

    def _next_to_go(self, kept: list[int]) -> int:
        named = [i for name in self.drop for i in kept if self.columns[i] == name and i]
        return named[0] if named else kept[-1]

    def _turned(self) -> "Grid":
        corner, *heads = self.columns
        columns = [corner, *(row[0] for row in self.rows)]
        rows = [[head, *(row[i] for row in self.rows)] for i, head in enumerate(heads, start=1)]
        return Grid(self.title, columns, rows)


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: int = 1,
    drop: tuple[str, ...] = (),
    turn: bool = False,
) -> Grid:
    """A table whose columns from index `right` on are numbers."""
    return Grid(title, columns, rows, frozenset(range(right)), drop, turn)


@dataclass(frozen=True)
class Facts:
    """Names and what there is to say of each, in prose."""

    title: str
    facts: dict[str, str]

    def lines(self, width: int) -> Iterator[Line]:
        """With lines broken between words."""
        if self.title:
            yield Line(visible(self.title), bold=True)
        facts = {visible(name): text for name, text in self.facts.items()}
        margin = max(map(cell_len, facts))
        for name, text in facts.items():
            first, *more = _wrapped(visible(text), max(width - margin - len(_GAP), 20)) or [""]
            yield Line(f"{name:{margin}}{_GAP}{first}".rstrip())
            yield from (Line(f"{'':{margin}}{_GAP}{line}") for line in more)


class _Shown(NamedTuple):
    header: list[str]
    cells: list[str]
    is_text: bool


class _Column:
    """One column, and the widths that it can have."""

    def __init__(self, is_text: bool, header: str, cells: list[str]):
        self.is_text, self.header, self.cells = is_text, header, cells
        widest = max(map(cell_len, cells), default=0)
        words = _wrapped(header, 1, cut=False)
        self.full = max(widest, cell_len(header))
        longest_word = min(max(map(cell_len, words), default=0), max(_SHORT, widest))
        self.least = max(self._shortest(widest) if is_text else widest, longest_word)
        self.whole = max(widest, self.least)  # headers may break, cells are whole

    def _shortest(self, widest: int) -> int:
        """The least width in which different names still look different."""
        names = set(self.cells)
        for width in range(min(_SHORT, widest), widest):
            if len({short(name, width) for name in names}) == len(names):
                return width
        return widest

    def lines(self, width: int) -> _Shown:
        header = [short(line, width) for line in _wrapped(self.header, width, cut=False)]
        return _Shown(header, [short(cell, width) if self.is_text else cell for cell in self.cells], self.is_text)


def _total(widths: Iterable[int]) -> int:
    widths = list(widths)
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _shared(columns: list[_Column], width: int) -> list[int]:
    """Widths of columns: the least that each needs, then whole names, then whole headers, as far as there is room."""
    widths = [column.least for column in columns]
    for wanted in ([column.whole for column in columns], [column.full for column in columns]):
        for i, wish in enumerate(wanted):
            room = width - _total(widths)
            widths[i] += max(0, min(wish - widths[i], room))
    return widths


def _joined(cells: Sequence[str], columns: list[_Shown], widths: list[int]) -> str:
    padded: list[str] = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        space = " " * (width - cell_len(cell))
        padded.append(cell + space if column.is_text else space + cell)
    return _GAP.join(padded).rstrip()


def short(text: str, width: int) -> str:
    """The text without its middle: both the arm at the front and the seed at the end of a run's name are needed."""
    if cell_len(text) <= width:
        return text
    front, back = text[: len(text) // 2], text[len(text) // 2 :]
    while front and back and cell_len(front) + cell_len(back) + 1 > width:
        front, back = (front[:-1], back) if cell_len(front) > cell_len(back) else (front, back[1:])
    return f"{front}{_ELLIPSIS}{back}"


def _wrapped(text: str, width: int, *, cut: bool = True) -> list[str]:
    """Broken between words; a word longer than a line is cut, or has a line of its own."""
    return textwrap.wrap(text, width, break_long_words=cut, break_on_hyphens=not cut)
