"""status.json: how far a run is."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs._files import read_bytes

_RECORD_BYTES = 2**16

_Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Status(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)  # other keys are left out

    state: Literal["waiting", "running", "interrupted", "failed", "finished"]
    step: _Count
    steps: _Count
    tokens: _Count
    seconds: float = Field(ge=0)
    message: str | None = None


def read_status(run: Path) -> dict[str, Any]:
    """A run's status.json, or the state 'waiting' where there is none yet."""
    path = run / layout.STATUS
    if not path.exists():
        return {"state": "waiting"}
    try:
        return _Status.model_validate_json(read_bytes(path, _RECORD_BYTES)).model_dump(exclude_none=True)
    except ValidationError:
        raise MechdistillError(f"{path}: damaged; delete it to have the run checked and resumed") from None
