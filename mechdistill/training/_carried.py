"""What other processes know of a user's own definitions: those of files, which they load, and none of a session."""

from collections.abc import Iterable, Iterator
from typing import Any

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.registry import SESSION, Registry

_NAMING = ("kind", "signal")  # keys of a config whose values name entries of registries


def refuse_session(configs: Iterable[RunConfig], jobs: int) -> None:
    """Raise `MechdistillError` if runs use what was defined in this session, in a notebook or a script."""
    used = {name for config in configs for name in _named(config.model_dump(mode="json"))}
    for registry in Registry.every:
        for name, origin in registry.origins.items():
            if origin == SESSION and name in used:
                raise MechdistillError(
                    f"jobs={jobs}: {registry.kind} '{name}' is defined in this session, which other processes cannot "
                    "see; put it into a file and load that by md.plugin(FILE), or train with jobs=1"
                )


def _named(value: Any) -> Iterator[str]:
    """The names in a config that a registry may hold."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key in _NAMING and isinstance(part, str):
                yield part
            else:
                yield from _named(part)
    elif isinstance(value, list):
        for part in value:
            yield from _named(part)
