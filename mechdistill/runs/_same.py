"""Whether two configs say the same run."""

from collections.abc import Mapping
from typing import Any

from mechdistill.config import RunConfig


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Top-level keys in which they differ, by what they say, not by the classes that say it."""
    ours, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")
    return [key for key in ours if not same(ours[key], theirs[key])]


def same(one: Any, other: Any) -> bool:
    """Whether two values of a config say the same.

    A text is what its hash says, wherever it lies; a hash that only one of them notes is no difference: version 1 noted
    those of overrides in runs alone.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        unimportant = told_by_hash(one, other)
        return all(key in one and key in other and same(one[key], other[key]) for key in {*one, *other} - unimportant)
    return one == other


def told_by_hash(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """Keys of two mappings that need not agree because of a hash in one of them or both."""
    hashes = (one.get("sha256"), other.get("sha256"))
    if None in hashes:
        return {"sha256"}
    return {"path"} if hashes[0] == hashes[1] else set()
