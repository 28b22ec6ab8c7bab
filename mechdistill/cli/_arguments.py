"""Reading the arguments of commands: seeds, checkpoints, and an experiment with its overrides."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mechdistill.config import (
    FACTORS,
    MOST_OF_A_TEXT,
    CorpusRows,
    ExperimentConfig,
    MatchedSmoothing,
    load_experiment,
    refuse_what_does_not_fit,
    seed_range,
)
from mechdistill.config import experiment as check_experiment
from mechdistill.errors import MechdistillError, did_you_mean, named
from mechdistill.reading import refuse_unreadable

if TYPE_CHECKING:
    from mechdistill.runs import Experiment

_MOST_DIGITS = 10  # of a step


def read_arguments(
    path: Path | None, preset: str | None, settings: list[str], arms: str | None, seeds: str | None
) -> ExperimentConfig:
    """The checked experiment that `train`'s arguments ask for."""
    if seeds is not None:
        settings = [*settings, f"seeds={parse_seeds(seeds)}"]
    experiment = _of_arms(load_experiment(path, preset_name=preset, settings=settings), arms)
    refuse_what_does_not_fit(experiment)  # before torch is waited for, and so are texts
    for rows in (experiment.arm_sandbox(arm).rows for arm in experiment.arms):
        if isinstance(rows, CorpusRows):
            try:
                refuse_unreadable(Path(rows.path), MOST_OF_A_TEXT)
            except OSError as error:
                raise MechdistillError(
                    f"sandbox.rows.path={rows.path}: must be a readable UTF-8 text file ({error.strerror})"
                ) from None
    return experiment


def _of_arms(experiment: ExperimentConfig, arms: str | None) -> ExperimentConfig:
    if arms is None:
        return experiment
    wanted = [arm.strip() for arm in arms.split(",")]
    for arm in wanted:
        if arm not in experiment.arms:
            raise MechdistillError(f"--arms {named(arm)}: no such arm; {did_you_mean(arm, experiment.arms)}")
        smoothing = experiment.arms[arm].label_smoothing
        if isinstance(smoothing, MatchedSmoothing) and smoothing.match not in wanted:
            raise MechdistillError(f"--arms {arms}: {arm} has to match {smoothing.match}; name that arm too")
        start = experiment.arms[arm].init
        source = next((each.arm for each in experiment.treatments() if start and each.name == start.arm), arm)
        if source not in wanted:
            raise MechdistillError(f"--arms {arms}: {arm} begins at a checkpoint of {source}; name that arm too")
    data = experiment.model_dump(mode="json")
    return check_experiment({**data, "arms": {name: arm for name, arm in data["arms"].items() if name in wanted}})


def parse_checkpoint(text: str) -> int | Literal["last", "all"]:
    """'last', 'all', or a step."""
    if text == "last" or text == "all":
        return text
    if text.isdecimal() and len(text) <= _MOST_DIGITS:
        return int(text)
    raise MechdistillError(f"--checkpoint {named(text)}: must be last, all or a step like 1000")


def parse_seeds(text: str) -> list[int] | dict[str, list[int]]:
    """Seeds from '0-4', '3' or '0,2,5-7', or crossed from 'init=0-2,data=0-2'."""
    parts = re.split(r",(?=\s*[A-Za-z]+\s*=)", text)
    try:
        if "=" not in text:
            return seed_range(text)
        crossed: dict[str, list[int]] = {}
        for part in parts:
            key, _, seeds = part.partition("=")
            if key.strip() not in FACTORS or key.strip() in crossed:
                raise ValueError(f"'{named(part)}' must be one of {', '.join(FACTORS)}, each once, like init=0-2")
            crossed[key.strip()] = seed_range(seeds)
    except ValueError as error:
        raise MechdistillError(f"--seeds {named(text)}: {error}") from None
    return crossed


def experiment_of(path: Path) -> "Experiment":
    """The experiment in a directory; raises `MechdistillError` for a run."""
    from mechdistill.runs import Experiment, load

    found = load(path)
    if not isinstance(found, Experiment):
        raise MechdistillError(f"{path}: is one run; give its experiment's directory, like {path.parent.parent}")
    return found
