"""Teachers: whatever gives soft targets. To add one, write a class with `log_probs` and `from_config`; register it."""

from collections.abc import Callable, Mapping

from mechdistill.config import Teacher as TeacherConfig
from mechdistill.model import Model
from mechdistill.teachers._checkpoint import Checkpoint, Progressive
from mechdistill.teachers._combined import Ensemble, Splice, Temperature
from mechdistill.teachers._corrupted import Noisy, Permuted
from mechdistill.teachers._count import Count
from mechdistill.teachers._drawn import Sampled, TopK, expected
from mechdistill.teachers._exact import Bigram, Oracle, Uniform
from mechdistill.teachers._protocol import Moment, Setting, Teacher, everyone
from mechdistill.teachers._student import Ema
from mechdistill.teachers._tilted import Tilted
from mechdistill.world import Stream, World

TEACHERS: dict[str, type[Teacher]] = {
    teacher.kind: teacher
    for teacher in (
        Oracle,
        Bigram,
        Uniform,
        Noisy,
        Count,
        Checkpoint,
        Progressive,
        Ensemble,
        Tilted,
        Ema,
        Splice,
        Permuted,
        Temperature,
        TopK,
        Sampled,
    )
}
"""By their kind in the experiment file."""


def build(
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
            built[name] = TEACHERS[config.kind].from_config(config, setting, [get(part) for part in config.parts])
        return built[name]

    return get(name)


__all__ = [
    "TEACHERS",
    "Bigram",
    "Checkpoint",
    "Count",
    "Ema",
    "Ensemble",
    "Moment",
    "Noisy",
    "Oracle",
    "Permuted",
    "Progressive",
    "Sampled",
    "Setting",
    "Splice",
    "Teacher",
    "Temperature",
    "Tilted",
    "TopK",
    "Uniform",
    "build",
    "everyone",
    "expected",
]
