"""The seeds of an experiment: one number for weights, data and teacher together, or each crossed with the others.

Plain seeds answer whether an arm differs; crossed ones say what makes runs of one arm differ.
"""

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Discriminator, Field, Tag, model_validator

from mechdistill.config._base import Config, Seed, Whole
from mechdistill.errors import named, quoted

FACTORS = ("init", "data", "teacher")
"""What a seed stands for: the initial weights, the training sequences, and the teacher with its own of both."""
MOST_LEVELS = 1000
"""Of one kind of seed where they are crossed: the number of a combination has three digits for each."""
MOST_SEEDS = 10_000
_MOST_DIGITS = 10  # of a seed


def seed_range(text: str) -> list[int]:
    """Seeds as '0-4', '3' or '0,2,5-7'; raises ValueError saying what is wrong with the text."""
    seeds: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()) or max(len(low), len(high)) > _MOST_DIGITS:
            raise ValueError(f"'{named(part)}' must be a seed or a range like 0-4")
        if dash and int(high) < int(low):
            raise ValueError(f"a range runs from low to high; did you mean {high}-{low}?")
        if int(high or low) - int(low) >= MOST_SEEDS:
            raise ValueError(f"must be at most {MOST_SEEDS} seeds")
        seeds += range(int(low), int(high or low) + 1)
    return list(dict.fromkeys(seeds))


class Combination(NamedTuple):
    """The seeds of one student, whatever its arm."""

    student: int
    """Its number, which twins share and which its directory is named by."""
    init: int
    data: int
    teacher: int | None
    """None: the student's number, as without crossing."""


class CrossedSeeds(Config):
    """Every combination of init, data and teacher seeds; a kind that is left out stays at seed 0, so that it does not
    vary.

    A combination's number is teacher·10^6 + init·10^3 + data, whatever other seeds there are, so that it stays when
    more are added: 3012 has init seed 3 and data seed 12.
    """

    init: tuple[Annotated[Whole, Field(ge=0, lt=MOST_LEVELS)], ...] = Field(default=(0,), min_length=1, strict=False)
    """Of the initial weights: a list, or text like 0-5."""
    data: tuple[Annotated[Whole, Field(ge=0, lt=MOST_LEVELS)], ...] = Field(default=(0,), min_length=1, strict=False)
    """Of the training sequences."""
    teacher: tuple[Annotated[Whole, Field(ge=0, lt=MOST_LEVELS)], ...] = Field(default=(0,), min_length=1, strict=False)
    """Of teachers: whatever follows the student's seed where seeds are not crossed (`seed: per-student`)."""

    @model_validator(mode="before")
    @classmethod
    def _read_ranges(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        read: dict[Any, Any] = {}
        for key, value in data.items():
            if key in FACTORS and type(value) is int:
                value = [value]
            if key in FACTORS and isinstance(value, str):
                try:
                    value = seed_range(value)
                except ValueError as error:
                    raise ValueError(f"{key}={quoted(value)}: {error}") from None
            read[key] = value
        return read

    @model_validator(mode="after")
    def _crosses(self) -> Self:
        for factor in FACTORS:
            values = self.levels(factor)
            if len(set(values)) != len(values):
                raise ValueError(f"{factor}={quoted(list(values))}: must not repeat a value")
        return self

    def levels(self, factor: str) -> tuple[int, ...]:
        """The seeds of one kind."""
        return getattr(self, factor)

    def joined(self, other: "CrossedSeeds") -> dict[str, list[int]]:
        """The crossing of all seeds of either."""
        return {factor: list(dict.fromkeys((*self.levels(factor), *other.levels(factor)))) for factor in FACTORS}

    def combinations(self) -> tuple[Combination, ...]:
        """Every one, data seeds running fastest."""
        return tuple(
            Combination(teacher * MOST_LEVELS**2 + init * MOST_LEVELS + data, init, data, teacher)
            for teacher in self.teacher
            for init in self.init
            for data in self.data
        )


def _tag(value: Any) -> Literal["crossed", "list"]:
    return "crossed" if isinstance(value, dict | CrossedSeeds) else "list"


MOST_RUNS = 10_000
Seeds = Annotated[
    Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST_RUNS, strict=False), Tag("list")]
    | Annotated[CrossedSeeds, Tag("crossed")],
    Discriminator(_tag),
]


def combinations(seeds: "tuple[int, ...] | CrossedSeeds") -> tuple[Combination, ...]:
    """The seeds of every student of an arm."""
    if isinstance(seeds, CrossedSeeds):
        return seeds.combinations()
    return tuple(Combination(seed, seed, seed, None) for seed in seeds)
