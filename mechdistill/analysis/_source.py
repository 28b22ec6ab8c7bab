"""What a measure's numbers depend on besides weights and settings: the source that measures, and users' definitions."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from mechdistill.circuits import ABLATIONS, SCORES
from mechdistill.registry import Origin, Registry
from mechdistill.tables import MEASURES, Measure

# rooms that show, compare, store or train, and so change no number of a checkpoint that is there
_ELSEWHERE = {"cli", "plots", "report", "publishing", "stats", "runs", "training"}


@cache
def source_digest() -> str:
    """SHA-256 of every file of mechdistill that could change what a measure gives."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in _ELSEWHERE:
            digest.update(f"{name.as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def definitions(measure: Measure) -> dict[str, Origin]:
    """The users' definitions that a measure's numbers depend on, by kind and name.

    Ours iterate scores and ablations where they look at heads; what a user's own measure asks for is not known, so that
    it depends on them all and on every other measure of a user.
    """
    registries: list[Registry[Any]] = []
    if MEASURES.origin(measure.name) is not None:
        registries = [SCORES, ABLATIONS, MEASURES]
    elif "heads" in measure.needs:
        registries = [SCORES, ABLATIONS]
    return {f"{r.kind} {name}": origin for r in registries for name, origin in r.origins.items()}
