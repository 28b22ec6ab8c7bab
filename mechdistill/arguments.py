"""What callers hand in from Python, checked as the command line checks what is typed: before anything is done.

Whole numbers of numpy and torch pass for what they are, and paths as text for paths; a value of another kind is refused
with its name instead of failing somewhere inside.
"""

import operator
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from mechdistill.errors import MechdistillError, quoted


def whole(value: Any, name: str, least: int = 0) -> int:
    """A whole number, at least `least`, whatever kind of integer it came as; raises `MechdistillError` naming it."""
    is_bool = isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")
    try:
        number = None if is_bool or tuple(getattr(value, "shape", ())) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        raise MechdistillError(f"{name}={quoted(value)}: must be a whole number, at least {least}")
    return number


def share(value: Any, name: str) -> float:
    """A number from 0 to 1, of numpy and torch too; raises `MechdistillError` naming it."""
    number = value.item() if hasattr(value, "item") and not tuple(value.shape) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number <= 1:
        raise MechdistillError(f"{name}={quoted(value)}: must be a number between 0 and 1")
    return float(number)


def words(value: Any, name: str, like: str) -> tuple[str, ...]:
    """Several texts, which one text is not; raises `MechdistillError` naming it."""
    if not isinstance(value, list | tuple) or not all(isinstance(part, str) for part in value):
        raise MechdistillError(f"{name}={quoted(value)}: must be a list of texts, like {[like]}")
    return tuple(value)


def path(value: Any, name: str) -> Path:
    """A path, also as text; raises `MechdistillError` naming what is none."""
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise MechdistillError(f"{name}={quoted(value)}: must be a path")
    return Path(value)


def one_of(value: Any, name: str, words: Collection[str]) -> str:
    """One of some words; raises `MechdistillError` that names them all."""
    if not isinstance(value, str) or value not in words:
        raise MechdistillError(f"{name}={quoted(value)}: must be {' or '.join(map(repr, words))}")
    return value


def instance(value: Any, name: str, kind: type | tuple[type, ...], fix: str) -> Any:
    """A value of a kind; raises `MechdistillError` that says how to get one."""
    if not isinstance(value, kind):
        raise MechdistillError(f"{name}={quoted(value)}: {fix}")
    return value
