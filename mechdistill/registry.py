"""Named things of one kind that all rooms iterate: metrics, measures, scores, ablations, teachers and the like.

What mechdistill has itself is given when a registry is made; `add` is for what a user defines in a notebook or a
file of their own (see `plugins`). Such an entry knows where it comes from, so that provenance and cache keys can say.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from mechdistill.errors import MechdistillError, did_you_mean

if TYPE_CHECKING:  # --help has no time for a protocol
    from typing import Protocol

    class Named(Protocol):
        """Whatever has a name."""

        @property
        def name(self) -> str:
            """Its key in the registry."""
            ...


_NAME = r"[a-z0-9][a-z0-9-]{0,63}"

T = TypeVar("T", bound="Named")


class Origin(NamedTuple):
    """Where a user's entry comes from."""

    where: str  # a file's path, or 'this session'
    digest: str | None  # SHA-256 of its source; None in a notebook, where nobody can say what a definition depends on


SESSION = Origin("this session", None)


class Registry(Mapping[str, T]):
    """Entries by name, in the order in which they came. An unknown name raises MechdistillError with the nearest."""

    every: ClassVar[list["Registry[Any]"]] = []
    loading: ClassVar[Origin] = SESSION
    """Origin of what is added now; `plugins.load` sets it while it reads a file."""

    def __init__(self, kind: str, entries: Iterable[T] = ()):
        """`kind` is what an entry is called in errors, like 'head score'."""
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._origins: dict[str, Origin] = {}
        for entry in entries:
            if entry.name in self._entries:
                raise ValueError(f"{kind} '{entry.name}' is defined twice")
            self._entries[entry.name] = entry
        Registry.every.append(self)

    def add(self, entry: T) -> T:
        """A user's entry. One of this session replaces its own earlier definition, as when a cell is run again.

        Raises `MechdistillError` for a name that is taken or no name.
        """
        name = entry.name
        if not isinstance(name, str) or not re.fullmatch(_NAME, name):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MechdistillError(f"{self.kind} '{name}': a name is made of lower-case letters, digits and hyphens")
        origin = self._origins.get(name)
        if name in self._entries and not (origin == SESSION == Registry.loading):
            where = "mechdistill" if origin is None else origin.where
            raise MechdistillError(f"{self.kind} '{name}': {where} has one of that name already; choose another name")
        self._entries[name] = entry
        self._origins[name] = Registry.loading
        return entry

    def drop(self, where: str) -> None:
        """Forget the entries of a user's file."""
        for name in [name for name, origin in self._origins.items() if origin.where == where]:
            del self._entries[name], self._origins[name]

    def state(self) -> tuple[dict[str, T], dict[str, Origin]]:
        """What `restore` puts back."""
        return dict(self._entries), dict(self._origins)

    def restore(self, state: tuple[dict[str, T], dict[str, Origin]]) -> None:
        """Put back what `state` gave."""
        self._entries, self._origins = dict(state[0]), dict(state[1])

    def origin(self, name: str) -> Origin | None:
        """Where an entry comes from; None for mechdistill's own."""
        return self._origins.get(name)

    def call(self, name: str, function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """function(...) on behalf of an entry. What a user's raises is a `MechdistillError` that names the entry."""
        origin = self._origins.get(name)
        if origin is None:
            return function(*arguments, **settings)
        try:
            return function(*arguments, **settings)
        except MechdistillError:
            raise
        except Exception as error:
            raise MechdistillError(
                f"{self.kind} '{name}' ({origin.where}): {type(error).__name__}: {error}; mend the definition"
            ) from error

    @property
    def origins(self) -> dict[str, Origin]:
        """Of the users' entries, by name."""
        return dict(self._origins)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            raise MechdistillError(f"{self.kind} '{name}': no such {self.kind}; {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or the default where there is none."""
        return self._entries.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def definitions_loaded(registries: "Iterable[Registry[Any]] | None" = None) -> dict[str, Origin]:
    """Every user's definition that there is now, by kind and name; in some registries, or in all."""
    among = Registry.every if registries is None else registries
    return {f"{registry.kind} {name}": origin for registry in among for name, origin in registry.origins.items()}


def name_of(definition: object) -> str:
    """What an entry is called that is defined by a function: the function's name, in hyphens."""
    return getattr(definition, "__name__", type(definition).__name__).strip("_").replace("_", "-")
