"""status.json: how far a run is."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mechdistill.errors import MechdistillError

RUNNING, INTERRUPTED = "running", "interrupted"

_Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Status(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)  # other keys are left out

    state: Literal["waiting", "running", "interrupted", "failed", "finished"]
    step: _Count
    steps: _Count
    tokens: _Count
    seconds: float = Field(ge=0)
    message: str | None = Field(default=None, max_length=10_000)


def check_status(record: Any, path: Path) -> dict[str, Any]:
    """A record as it was read from `path`; raises `MechdistillError` if it is none that a run could have written."""
    try:
        return _Status.model_validate(record).model_dump(exclude_none=True)
    except ValidationError:
        raise MechdistillError(f"{path}: damaged; delete it to have the run checked and resumed") from None
