"""From entries of the experiment file to teachers."""

from collections.abc import Callable, Mapping
from typing import Any

from mechdistill.config import TEACHERS, TeacherConfig
from mechdistill.model import Model
from mechdistill.tables import resolve
from mechdistill.teachers._own import build_own
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import Stream, World


def build_teacher(
    name: str,
    definitions: Mapping[str, TeacherConfig],
    world: World,
    data: Stream,
    seed: int,
    trained: Callable[[str, float], Model],
) -> Teacher:
    """The teacher of an entry, and what it is made of, each entry once: a part that two share is one object.

    `data` is the student's stream, `seed` its seed, and `trained` opens models of checkpoint teachers (see `Setting`).
    """
    built: dict[str, Teacher] = {}

    def get(name: str) -> Teacher:
        if name not in built:
            config = definitions[name]
            setting = Setting(name=name, world=world, data=data, seed=seed, trained=trained)
            parts = [get(part) for part in config.parts]
            implementation: Any = resolve(TEACHERS[config.kind].implementation)
            if TEACHERS.origin(config.kind) is not None:
                built[name] = build_own(implementation, config, setting, parts)
            else:
                built[name] = implementation.from_config(config, setting, parts)
            built[name].name = name
        return built[name]

    return get(name)
