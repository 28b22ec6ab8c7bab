"""What every part of the experiment file shares: strict numbers, frozen models, unknown keys refused by name."""

import re
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from mechdistill.errors import did_you_mean, named, quoted


def _integral(value: Any) -> Any:
    """Refuse 30.0: is it 30, or thirty thousand with a point? `parse_yaml` reads 3e6 as a whole number."""
    if not isinstance(value, float) or not value.is_integer():
        return value
    if abs(value) >= 2**53:
        return int(value)  # too large in any case, and bounds say so better
    rule = "must be a whole number, without a decimal point; write {exact} if that is meant"
    raise PydanticCustomError("whole", rule, {"exact": str(int(value))})


def exactly_whole(value: Any) -> Any:
    """Keep True and 1.0 from passing for 1."""
    return value if type(value) is int else str(value)


_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def _usable(name: str) -> str:
    """Names become directories: on every file system, and beside what else lies there."""
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("name", "must be 1 to 64 letters (a-z), digits, - or _, the first no - or _")
    if name.lower() in _DEVICES:
        raise PydanticCustomError("name", "must be another name: Windows keeps this one for a device")
    return name


Whole = Annotated[int, BeforeValidator(_integral)]
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, AfterValidator(_usable)]

Stage = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Probability], Field(strict=False)]
"""From this fraction of the run on, this value."""


def check_stages(stages: tuple[tuple[float, float], ...]) -> None:
    """Raise ValueError unless stages start at 0 and ascend, and each changes something."""
    starts = [start for start, _ in stages]
    if starts[0] != 0 or sorted(set(starts)) != starts:
        raise ValueError(f"stages: must start at 0 and ascend, not {quoted(starts)}")
    for (_, before), (start, value) in pairwise(stages):
        if before == value:
            raise ValueError(f"stages: the one from {start:g} on is {value:g}, like the one before it; drop it")


def check_reached(stages: tuple[tuple[float, float], ...], steps: int) -> None:
    """Raise ValueError if training of so many steps ends before a stage begins."""
    start = stages[-1][0]
    if start * steps > steps - 1:
        raise ValueError(f"stages: none of the {steps} steps of training lies in the stage from {start:g} on; drop it")


def _plain(value: Any) -> Any:
    """A number or an array of numpy's or torch's as Python's own, also inside a list."""
    if isinstance(value, list | tuple):
        return [_plain(part) if hasattr(part, "tolist") else part for part in value]
    return value.tolist() if hasattr(value, "tolist") else value


class Config(BaseModel):
    """A ValueError raised by a validator here starts with the key it is about, relative to the model."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = {key: _plain(value) for key, value in data.items()}
            for key in data:
                if key not in cls.model_fields:
                    raise ValueError(f"{named(str(key))}: unknown key; {did_you_mean(str(key), cls.model_fields)}")
        return data
