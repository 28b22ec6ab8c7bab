"""Entries of the experiment file that have a `kind`, where kinds are open: a user's own are read like ours.

Such a kind is a class whose fields are its settings, and a record in a registry that names what implements it. The
class says besides what others have to know of the kind, so that nobody asks for its name.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BeforeValidator, model_validator

from mechdistill.config._base import Config
from mechdistill.errors import quoted
from mechdistill.registry import Registry
from mechdistill.tables import Function


class KindConfig(Config):
    """Settings of one kind. A subclass gives the kind's name: `class Noisy(TeacherConfig, kind="noisy")`."""

    kind_name: ClassVar[str] = ""
    kind: str = ""

    def __init_subclass__(cls, *, kind: str = "", **options: Any):
        super().__init_subclass__(**options)
        cls.kind_name = kind or cls.kind_name

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_kind(cls, data: Any) -> Any:
        return {"kind": cls.kind_name, **data} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _is_its_kind(self) -> Self:
        if self.kind != self.kind_name:
            raise ValueError(f"kind={quoted(self.kind)}: must be {self.kind_name!r}")
        return self


C = TypeVar("C", bound=KindConfig)


@dataclass(frozen=True)
class Kind(Generic[C]):
    """A kind, and what implements it: 'module:name', so that nothing heavy is imported, or a user's own function or
    class."""

    config: type[C]
    implementation: Function

    @property
    def name(self) -> str:
        """As the experiment file says it."""
        return self.config.kind_name


def of_kind(registry: Registry[Kind[C]]) -> BeforeValidator:
    """Reads a mapping as what its `kind` is in the registry at that time."""

    def read(data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        if "kind" not in data:
            raise ValueError("kind: missing; say which kind it is")
        kind = data["kind"]
        if not isinstance(kind, str) or kind not in registry:
            raise ValueError(f"kind={quoted(kind)}: must be {one_of(registry)}")
        return registry[kind].config.model_validate(data)

    return BeforeValidator(read)


def one_of(registry: Registry[Any]) -> str:
    """What a name has to be, for errors."""
    return f"one of {', '.join(map(repr, registry))}; one of your own comes with --plugin FILE.py"
