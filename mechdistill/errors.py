"""The one exception that means "your input, not our bug".

Its message is one line: the value, the rule it breaks, and what to do. The command line prints exactly these
without a traceback and exits with 2; anything else that escapes is a failure of our own.
"""

import re
from collections.abc import Iterable
from reprlib import Repr
from typing import Any

MOST_OF_A_VALUE = 60
"""Characters of a quoted value, cut in the middle."""
MOST_OF_A_WORD = 160
"""Characters without a space between them, like a path, cut in the middle."""
MOST_OF_A_LINE = 500
"""Characters of a message, cut in the middle: it starts with the value and ends with the fix."""

_LONG_WORD = re.compile(rf"\S{{{MOST_OF_A_WORD + 1},}}")


class MechdistillError(Exception):
    """Bad input, or a run directory that cannot be used: one line naming value, rule and fix."""

    def __init__(self, message: str):
        super().__init__(one_line(message))


def one_line(text: str, most: int = MOST_OF_A_LINE) -> str:
    """Text as a message may show it: cut to `most` characters, and whatever a terminal would obey or an encoding refuse
    (control and format characters, lone surrogates) as an escape like \\x1b."""
    text = _LONG_WORD.sub(lambda word: _cut(word[0], MOST_OF_A_WORD), text)
    return _cut(visible(_cut(text, most)), most)


def quoted(value: Any) -> str:
    """A value for a message, as `repr` in at most `MOST_OF_A_VALUE` characters, however large or deep it is."""
    return one_line(_SHORT.repr(value), MOST_OF_A_VALUE)


def named(name: str) -> str:
    """A key or a name for a message, bare, in at most `MOST_OF_A_VALUE` characters."""
    return one_line(name, MOST_OF_A_VALUE)


def visible(text: str) -> str:
    """The text with every character spelled out that a terminal would obey, or that nobody can see or encode."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class NotStored(UserWarning):
    """A table or a figure that nobody asked to be stored could not be: the numbers are there all the same."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The sentence that ends an unknown-name error: the nearest valid name, or all of them if none is near."""
    from difflib import get_close_matches  # here, since --help names nothing wrong

    names = sorted(valid)
    inside = [known for known in names if known.endswith(f".{name}")]
    near = inside or get_close_matches(name[:MOST_OF_A_VALUE], names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(names)}"


class _Short(Repr):
    def repr_int(self, x: int, level: int) -> str:  # noqa: ARG002
        # Python refuses to write integers of over 4300 digits, and nobody reads 20
        if x.bit_length() > 1000:
            return f"{'-' if x < 0 else ''}2**{x.bit_length() - 1} and more"
        return repr(x) if abs(x) < 10**15 else f"{x:.6g}"


_SHORT = _Short()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = MOST_OF_A_VALUE
_SHORT.maxlevel, _SHORT.maxdict, _SHORT.maxlist, _SHORT.maxtuple = 3, 4, 6, 6


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = (most - 3) // 2
    return f"{text[:head]}...{text[len(text) - (most - 3 - head) :]}"
