"""Which directories are runs and which experiments, told without opening them: a wrong path is refused at once."""

import shlex
from pathlib import Path
from typing import Literal

from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs._files import is_directory


def check_directory(path: str | Path) -> Literal["run", "experiment"]:
    """What a directory is; raises `MechdistillError` where it is neither."""
    path = Path(path)
    if not is_directory(path):
        raise MechdistillError(
            f"{path}: no such directory; train one with `mechdistill train --out {as_argument(path)}`"
        )
    if (path / layout.EXPERIMENT).exists():
        return "experiment"
    if (path / layout.CONFIG).exists():
        return "run"
    if any(path.glob(f"*/seed-*/{layout.CONFIG}")):
        raise MechdistillError(f"{path / layout.EXPERIMENT}: missing, though runs lie there; restore it, or open a run")
    inside = sorted(child.parent.name for child in path.glob(f"*/{layout.EXPERIMENT}"))
    if inside:
        raise MechdistillError(f"{path}: holds several experiments; choose one: {', '.join(inside)}")
    raise MechdistillError(
        f"{path}: neither a run nor an experiment (no {layout.CONFIG} or {layout.EXPERIMENT}); "
        "give the directory that `mechdistill train` wrote"
    )


def is_ours(path: str | Path) -> bool:
    """Whether a directory is a run or an experiment, as far as its files say."""
    return any((Path(path) / name).exists() for name in (layout.EXPERIMENT, layout.CONFIG))


def as_argument(path: str | Path) -> str:
    """A path as a shell takes it, for hints that are copied."""
    return shlex.quote(str(path))
