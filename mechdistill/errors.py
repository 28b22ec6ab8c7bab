"""The one exception that means "your input, not our bug".

Its message is one line: the value, the rule it breaks, and what to do. The command line prints exactly these
without a traceback and exits with 2; anything else that escapes is a failure of our own.
"""

from collections.abc import Iterable
from reprlib import Repr
from typing import Any


class MechdistillError(Exception):
    """Bad input, or a run directory that cannot be used: one line naming value, rule and fix."""

    def __init__(self, message: str):
        # a key or a path may hold a line break; the promise of one line holds all the same
        super().__init__("\\n".join(message.splitlines()))


def quoted(value: Any) -> str:
    """A value for a message, as `repr` in at most 60 characters, however large or deep it is."""
    text = " ".join(_SHORT.repr(value).split())
    return text if len(text) <= 60 else f"{text[:28]}...{text[-29:]}"


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The sentence that ends an unknown-name error: the nearest valid name, or all of them if none is near."""
    from difflib import get_close_matches  # here, since --help names nothing wrong

    names = sorted(valid)
    inside = [known for known in names if known.endswith(f".{name}")]
    near = inside or get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(names)}"
