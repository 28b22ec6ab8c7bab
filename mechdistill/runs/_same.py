"""Whether two configs say the same run."""

from typing import Any

from mechdistill.config import RunConfig


def differing_keys(one: RunConfig, other: RunConfig) -> list[str]:
    """Top-level keys in which they differ, by what they say, not by the classes that say it.

    The hash of a text that only one of them notes is no difference: version 1 noted those of overrides in runs alone.
    """
    ours, theirs = one.model_dump(mode="json"), other.model_dump(mode="json")
    return [key for key in ours if not _same(ours[key], theirs[key])]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        hashes = (one.get("sha256"), other.get("sha256"))
        skipped = {"sha256"} if None in hashes else set[str]()
        keys = {*one, *other} - skipped
        return all(key in one and key in other and _same(one[key], other[key]) for key in keys)
    return one == other
