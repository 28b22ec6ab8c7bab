"""status.json: how far a run is."""

from pathlib import Path
from typing import Any

from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs._files import read_json
from mechdistill.runs._lock import is_held

_RUNNING = "running"
_TYPES: dict[str, type | tuple[type, ...]] = {
    "state": str,
    "step": int,
    "steps": int,
    "tokens": int,
    "seconds": (int, float),
}


def read_status(run: Path) -> dict[str, Any]:
    """A run's status.json, or the state 'waiting' where there is none yet."""
    path = run / layout.STATUS
    if not path.exists():
        return {"state": "waiting"}
    status = read_json(path)
    sound = isinstance(status, dict) and all(
        isinstance(status.get(key), kind) and not (isinstance(status[key], int) and abs(status[key]) >= 2**63)
        for key, kind in _TYPES.items()
    )
    if not sound:
        raise MechdistillError(f"{path}: damaged; delete it to have the run checked and resumed")
    if status["state"] == _RUNNING and not any(is_held(around) for around in run.resolve().parents[1:3]):
        return {**status, "state": "interrupted"}  # whoever trained it was killed; a teacher's run lies a folder deeper
    return status
