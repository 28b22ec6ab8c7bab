"""Names that become directories: no two runs may share one, on any file system."""

from collections.abc import Iterable

from mechdistill.errors import quoted

_TAKEN = {"teachers", "figures", "tables"}  # what lies beside the arms


def written(scale: float) -> str:
    """A multiple of the learning rate as it stands in names: six digits."""
    return f"{scale:g}"


def check_written_apart(scales: tuple[float, ...]) -> None:
    """Raise ValueError for two multiples, or one and 1, that names do not tell apart."""
    found = {written(1): 1.0}
    for scale in scales:
        other = found.setdefault(written(scale), scale)
        if other != scale:
            raise ValueError(
                f"lr_scales={quoted(list(scales))}: {scale!r} and {other:g} are both written {written(scale)} in names "
                "of runs; give it in six digits or fewer, or drop it"
            )


def check_directories(key: str, names: Iterable[str]) -> None:
    """Raise ValueError for a name that is taken, or that differs from another in case only."""
    found: dict[str, str] = {}
    for name in names:
        if key == "arms" and name.lower() in _TAKEN:
            raise ValueError(f"{key}.{name}: '{name.lower()}' is a reserved name; rename the arm")
        other = found.setdefault(name.lower(), name)
        if other != name:
            raise ValueError(
                f"{key}.{name}: differs from {other} in case only, which not every file system tells apart; rename one"
            )


def check_treatments(names: Iterable[str]) -> None:
    """Raise ValueError for two runs of a seed that would lie in one directory."""
    found: set[str] = set()
    for name in names:
        if name.lower() in found:
            raise ValueError(f"arms.{name}: is also what an arm at another rate or a branch is called; rename it")
        found.add(name.lower())
