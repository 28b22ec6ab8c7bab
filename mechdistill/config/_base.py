"""What every part of the experiment file shares: strict numbers, frozen models, unknown keys refused by name."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mechdistill.errors import did_you_mean


def _integral(value: Any) -> Any:
    """Accept 6e6 where a whole number is meant."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def exactly_whole(value: Any) -> Any:
    """Keep True and 1.0 from passing for 1."""
    return value if type(value) is int else str(value)


Whole = Annotated[int, BeforeValidator(_integral)]
Seed = Annotated[Whole, Field(ge=0, lt=2**31)]
Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]

Stage = Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], Probability], Field(strict=False)]
"""From this fraction of the run on, this value."""


def ascending(stages: tuple[tuple[float, float], ...]) -> None:
    """Raise ValueError unless stages start at 0 and ascend."""
    starts = [start for start, _ in stages]
    if starts[0] != 0 or sorted(set(starts)) != starts:
        raise ValueError(f"stages: must start at 0 and ascend, not {starts}")


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
                    raise ValueError(f"{key}: unknown key; {did_you_mean(str(key), cls.model_fields)}")
        return data
