"""Finding the runs under a folder, at any depth, without a YAML parser: hundreds of them at once."""

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError, visible
from mechdistill.runs import _binding, _migrate
from mechdistill.runs import _layout as layout
from mechdistill.runs._binding import Held, Owner
from mechdistill.runs._files import is_directory, read_text, refuse_inner_links, refuse_link

# the head of a config.yaml as `to_yaml` writes it: plain or quoted names, one key a line
_HEAD = re.compile(
    r"""^(version|experiment|arm|treatment|(?:init_|data_|teacher_)?seed): *["']?([A-Za-z0-9:._-]+)["']? *(?:#.*)?$""",
    re.MULTILINE,
)
SEEDS = ("init_seed", "data_seed", "teacher_seed")
_MARKS = {layout.CONFIG, layout.STATUS, layout.METRICS, layout.METRICS_LOG}  # any of them makes a directory a run


@dataclass(frozen=True)
class Found:
    """A run's directory and what it says of itself."""

    path: Path
    experiment: str
    run: str
    arm: str
    seed: int
    status: dict[str, Any]
    held: Held | None
    config: str
    version: int | None

    @property
    def seeds(self) -> dict[str, int]:
        """Those of weights, data and teacher, as far as its config says them."""
        said = dict(_HEAD.findall(self.config))
        return {name: int(said[name]) for name in SEEDS if said.get(name, "").isdecimal()}

    @cached_property
    def owner(self) -> Owner:
        """Whose its files are; raises `MechdistillError` where that cannot be said."""
        return _binding.owner(self.path, self.config, self.version)


def find(folder: Path) -> list[Found]:
    """The runs under a folder by experiment, students first."""
    if not is_directory(folder):
        raise MechdistillError(f"{folder}: no such directory; give the folder that holds your runs")
    found: list[Found] = []
    for path, experiment in _candidates(folder):
        try:
            found.append(identify(folder, path, experiment))
        except MechdistillError as error:
            leave_out(error)
    return sorted(found, key=lambda run: (run.experiment, run.run.startswith("teachers/"), run.arm, run.seed, run.path))


def _candidates(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Directories that look like runs, each with the experiment directory around it."""
    experiments: dict[Path, Path | None] = {}
    for name, folders, files in os.walk(folder, onerror=lambda error: leave_out(f"{error.filename}: {error.strerror}")):
        here = Path(name)
        around = here if layout.EXPERIMENT in files else experiments.get(here.parent)
        if _MARKS.intersection(files):
            folders.clear()
            yield here, around
        for child in folders:
            if (here / child).is_symlink():
                leave_out(f"{here / child}: is a link; give the directory that it points to")
        experiments[here] = around


def identify(folder: Path, path: Path, around: Path | None) -> Found:
    """What a run's directory says of itself; raises `MechdistillError` where it is damaged, or not the one meant here.

    `around` is the experiment's directory, if there is one.
    """
    config = path / layout.CONFIG
    for file in (config, path / layout.STATUS, path / layout.PROVENANCE):
        refuse_link(file)
    refuse_inner_links(path)
    text = read_text(config)
    head = dict(_HEAD.findall(text))
    version = int(head["version"]) if head.get("version", "").isdecimal() else None
    _migrate.refuse_newer(config, version, _migrate.CONFIG_VERSION)
    key = "arm" if version == 1 else "treatment"
    if not {"experiment", key, "seed"} <= set(head) or not head["seed"].isdecimal():
        raise MechdistillError(f"{config}: names no experiment, {key} and seed; restore it, or move it away")
    treatment, seed = head[key], int(head["seed"])
    run = str(RunConfig.model_construct(treatment=treatment, seed=seed).path)
    experiment = head["experiment"]
    if around is not None:
        if str(path.relative_to(around)) != run:
            raise MechdistillError(f"{config}: is that of {run}, not of {path.relative_to(around)}; restore its files")
        experiment = folder.resolve().name if around == folder else str(around.relative_to(folder))
    status, held = _binding.status(path, text, version)
    if status["state"] == "finished":
        _binding.refuse_missing(path, held)
    return Found(path, visible(experiment), run, treatment, seed, status, held, text, version)


def leave_out(reason: MechdistillError | str) -> None:
    """Go on without something, and say so."""
    warnings.warn(f"left out: {visible(str(reason))}", stacklevel=2)
