"""A digest of mechdistill's own source, so that a number can say what computed it."""

import hashlib
from functools import cache
from pathlib import Path

# rooms that show, compare, store or train, and so change no number of a checkpoint that is there
_ELSEWHERE = {"cli", "plots", "report", "publishing", "stats", "runs", "training"}


@cache
def source_digest() -> str:
    """SHA-256, its first 16 digits, of every file of mechdistill that could change what a measure gives."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] not in _ELSEWHERE:
            digest.update(f"{name.as_posix()} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
