"""Training an experiment: check, lock, skip what is finished, train the rest, say how it ended."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mechdistill import arguments
from mechdistill.config import (
    CrossedSeeds,
    ExperimentConfig,
    RunConfig,
    definitions,
    expand,
    experiment,
    load_experiment,
    refuse_what_does_not_fit,
    to_yaml,
)
from mechdistill.errors import MechdistillError, quoted
from mechdistill.plugins import loaded
from mechdistill.registry import SESSION
from mechdistill.runs import (
    EXPERIMENT,
    Experiment,
    RunWriter,
    exclusive,
    load,
    remove_leftovers,
    told_by_hash,
    write_checks,
    write_text,
)
from mechdistill.training._checks import checks
from mechdistill.training._device import available_device
from mechdistill.training._engine import Listener, Outcome, Settings, train_all
from mechdistill.training._loggers import logger
from mechdistill.training._references import check_references
from mechdistill.worlds import pinned


def _ignore(_: Any) -> None:
    """The default report: nobody listens."""


def train(
    config: ExperimentConfig | str | Path,
    out: str | Path,
    *,
    jobs: int | None = 1,
    device: str | torch.device = "cpu",
    loggers: Sequence[str] = (),
    report: Listener = _ignore,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Train every run of `config`, an experiment or its file, that is not finished yet into the directory `out`.

    `jobs` runs train at a time, None: one a core. Finished runs are skipped, interrupted ones resume bit-exactly, more
    arms or seeds extend the experiment. Raises `MechdistillError` before anything is written for a device that is not
    there or any other argument that is none, if `out` is somebody else's directory, if any other key differs from the
    experiment that is there, if another process is writing it, or if several jobs would need what only this session has
    defined: other processes load the files of `mechdistill.plugin`, and nothing else of a user's.
    """
    if isinstance(config, str | os.PathLike):
        config = load_experiment(config)
    arguments.instance(config, "config", ExperimentConfig, "must be an experiment, as md.load_experiment gives it")
    config = experiment(dict(config))  # once more, since `model_copy` checks nothing
    out = arguments.path(out, "out")
    jobs = (os.cpu_count() or 1) if jobs is None else arguments.whole(jobs, "jobs", 1)
    names = arguments.words(loggers, "loggers", "wandb")
    settings = Settings(jobs, available_device(device), names, tuple(loaded()))
    for name in settings.loggers:
        logger(name)  # raises before anything is written
    for name, given in (("report", report), ("stopped", stopped)):
        if not callable(given):
            raise MechdistillError(f"{name}={quoted(given)}: must be a function")
    _check_processes(plan(config, out).todo, jobs)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MechdistillError(f"{out}: cannot be made ({error.strerror}); choose another") from None
    with exclusive(out):
        remove_leftovers(out, deep=True)
        merged, todo = plan(config, out)  # again, since only the lock keeps others from changing it
        write_text(out / EXPERIMENT, to_yaml(merged))
        trained = {o.run: o for o in train_all(out, todo, settings, report, stopped)} if todo else {}
        _store_checks(out)
    names = (str(run.path) for run in expand(config))
    return [trained.get(name, Outcome(name, "finished")) for name in names]


def _store_checks(out: Path) -> None:
    """Say in the directory whether teachers are what the study takes them for, as far as runs are finished."""
    stored = load(out)
    assert isinstance(stored, Experiment)
    table = checks(stored)
    if len(table):
        write_checks(out, table)


def _check_processes(runs: list[RunConfig], jobs: int) -> None:
    """Raise `MechdistillError` for what the processes of several jobs could not know: a definition of this session."""
    for run in runs if jobs > 1 else ():
        for what, origin in definitions(run).items():
            if origin.where == SESSION.where:
                raise MechdistillError(
                    f"jobs={jobs}: {what} is defined in this session, where other processes do not see it; put it into "
                    "a file (md.plugin) or train with jobs=1"
                )


class Plan(NamedTuple):
    """What training an experiment into a directory means."""

    merged: ExperimentConfig  # what the directory will hold: older arms and seeds included
    todo: list[RunConfig]  # runs that are not finished, teachers first


def plan(config: ExperimentConfig, out: Path) -> Plan:
    """Check that `config` can be trained into `out`, and find what is left to do; writes nothing."""
    refuse_what_does_not_fit(config)
    config = pinned(config)
    merged = _merged(config, out)
    runs = {run.path: run for run in expand(config)}
    writers = [RunWriter(out, run) for run in runs.values()]
    for writer in writers:
        writer.check()
        check_references(out, writer.config, runs)
    return Plan(merged, [writer.config for writer in writers if not writer.is_finished])


def _merged(config: ExperimentConfig, out: Path) -> ExperimentConfig:
    """The experiment that `out` will hold: `config`, plus arms, teachers, seeds and rates that are there already."""
    _check_out(out)
    if not out.exists():
        return config
    if not (out / EXPERIMENT).exists():
        if any(out.glob("*/seed-*/")):
            raise MechdistillError(
                f"{out / EXPERIMENT}: missing, though runs lie there; restore it or choose another directory"
            )
        if not out.is_dir() or any(not _ours(path.name) for path in out.iterdir()):
            raise MechdistillError(
                f"{out}: exists, is not empty and is no experiment; choose an empty or new directory"
            )
        return config
    stored = load(out)
    assert isinstance(stored, Experiment)
    there = pinned(stored.config)
    old, new = there.model_dump(mode="json"), config.model_dump(mode="json")
    for key, was, now in _differences(old, new):
        raise MechdistillError(
            f"{key}={quoted(now)}: {out / EXPERIMENT} was made with {quoted(was)}; only arms and seeds can be added, "
            "so change it back or choose another directory"
        )
    return experiment(  # checked: what is there and what is new may collide
        {
            **new,
            "arms": {**old["arms"], **new["arms"]},
            "teachers": {**old["teachers"], **new["teachers"]},
            "seeds": _joined(there, config, out),
            "lr_scales": list(dict.fromkeys((*there.lr_scales, *config.lr_scales))),
        }
    )


def _joined(there: ExperimentConfig, config: ExperimentConfig, out: Path) -> Any:
    """The seeds of either; of crossed seeds, the crossing of all.

    Raises `MechdistillError` where only one side crosses them: the numbers of its runs mean something else.
    """
    old, new = there.seeds, config.seeds
    if isinstance(old, CrossedSeeds) and isinstance(new, CrossedSeeds):
        return old.joined(new)
    if isinstance(old, CrossedSeeds) or isinstance(new, CrossedSeeds):
        was = "crossed" if isinstance(old, CrossedSeeds) else "plain"
        fix = "{init: 0-2, data: 0-2}" if was == "crossed" else "[0, 1]"
        raise MechdistillError(
            f"seeds: {out / EXPERIMENT} was made with {was} ones; give seeds like {fix}, or choose another directory"
        )
    return list(dict.fromkeys((*old, *new)))


def _check_out(out: Path) -> None:
    """Raise `MechdistillError` for a directory that cannot be made, say of too long a name."""
    try:
        (out / EXPERIMENT).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MechdistillError(f"{out}: cannot be made ({reason}); choose another") from None


def _ours(name: str) -> bool:
    """Whether a name in a directory without experiment.yaml is what a kill at the very start leaves."""
    return name.startswith((".lock", f".{EXPERIMENT}.mechdistill-"))


def _differences(old: Any, new: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    """Keys whose values differ, but for seeds and rates, and for arms and teachers that only one side has."""
    if path in (("seeds",), ("lr_scales",)):  # `_joined` looks at those
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = set(old) & set(new) if path in (("arms",), ("teachers",)) else {*old, *new} - told_by_hash(old, new)
        return [d for key in sorted(keys) for d in _differences(old.get(key), new.get(key), (*path, key))]
    return [] if old == new else [(".".join(path), old, new)]
