"""--plugin FILE.py, before or after a command's name: read before the commands are made, since a file may add some."""

import sys
from contextlib import redirect_stdout

from mechdistill.errors import MechdistillError

OPTION = "--plugin"
HELP = (
    f"{OPTION} FILE.py, any number of times, before or after a command: what the file defines (scores, measures, ...) "
    "works like our own. Only files named here are ever loaded."
)


def load_plugins(arguments: list[str]) -> list[str]:
    """Load the files that the arguments name, in order, and return the other arguments.

    What a file prints goes to stderr, since stdout is for results. Raises `MechdistillError` for a file that is
    missing or cannot be loaded.
    """
    files, others = _parted(arguments)
    if not files:
        return others
    from mechdistill.plugins import plugin

    with redirect_stdout(sys.stderr):
        for file in files:
            plugin(file)
    return others


def _parted(arguments: list[str]) -> tuple[list[str], list[str]]:
    files: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if argument == "--":  # from here on there are no options
            return files, [*others, argument, *rest]
        if option != OPTION:
            others.append(argument)
            continue
        file = value if equals else next(rest, "")
        if not file:
            raise MechdistillError(f"{OPTION}: names no file; give one, like {OPTION} mine.py")
        files.append(file)
    return files, others
