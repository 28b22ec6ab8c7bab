"""The one exception that means "your input, not our bug".

Its message is one line: the value, the rule it breaks, and what to do. The command line prints exactly these
without a traceback and exits with 2; anything else that escapes is a failure of our own.
"""

from collections.abc import Iterable


class MechdistillError(Exception):
    """Bad input, or a run directory that cannot be used: one line naming value, rule and fix."""

    def __init__(self, message: str):
        # a key or a path may hold a line break; the promise of one line holds all the same
        super().__init__("\\n".join(message.splitlines()))


class NotStored(UserWarning):
    """A table or a figure that nobody asked to be stored could not be: the numbers are there all the same."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """The sentence that ends an unknown-name error: the nearest valid name, or all of them if none is near."""
    from difflib import get_close_matches  # here, since --help names nothing wrong

    names = sorted(valid)
    inside = [known for known in names if known.endswith(f".{name}")]
    near = inside or get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"valid: {', '.join(names)}"
