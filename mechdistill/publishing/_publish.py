"""A run or an experiment as a folder for other people: all that `load` needs, a model card, and nothing of the author's
machine."""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.config import expand, to_yaml
from mechdistill.errors import MechdistillError, quoted
from mechdistill.publishing._card import card
from mechdistill.publishing._portable import portable, provenance
from mechdistill.publishing._transformers import check_transformers, write_transformers
from mechdistill.runs import EXPERIMENT, Experiment, Run, copy_run, is_left_over, opened, temporary, write_text

_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


@neutral()
def publish(
    source: Run | Experiment,
    folder: str | Path,
    *,
    checkpoints: Literal["all", "last"] = "all",
    format: Literal["native", "transformers"] = "native",
    license: str | None = None,
) -> Path:
    """Write a finished run or experiment as a folder for other people, with a README.md model card.

    `format="native"` is for `load`: config, provenance, status, metrics, checkpoints (all, or each run's last) and
    cached tables, in the layout of a run directory. Every file is checked and written anew, so nothing that is not
    understood goes along; host, process and absolute paths are left out (of a path the file's name stays, and a world
    made of a text needs that file beside its reader).

    `format="transformers"` is for `from_pretrained` of transformers, and so for every tool that opens GPT-2 or Llama
    (see `to_transformers`): a run's last checkpoint at the root, with a tokenizer whose tokens are the world's symbols,
    and with `checkpoints="all"` every one of them as a subfolder `step-N`; of an experiment this for each run, in a
    subfolder of the run's name. Config, metrics and tables stay at home.

    `license` is an identifier like 'mit' for the card; without one the card names none. The folder appears whole or not
    at all.

    Raises `MechdistillError` where a run has not finished, a file is damaged, the folder is not empty, or transformers
    cannot hold a model or read its symbols. A damaged cached table is left out with a warning.
    """
    opened(source, "source")
    folder = arguments.path(folder, "folder")
    arguments.one_of(checkpoints, "checkpoints", ("all", "last"))
    arguments.one_of(format, "format", ("native", "transformers"))
    if license is not None and not _LICENSE.fullmatch(arguments.instance(license, "license", str, "must be text")):
        raise MechdistillError(f"license={quoted(license)}: must be an identifier of the Hugging Face Hub, like mit")
    if Path(os.path.abspath(folder)).is_relative_to(source.path):  # noqa: PTH100
        raise MechdistillError(f"{folder}: lies inside {source.path}, whose runs would be there twice; choose another")
    runs = _finished(source)
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise MechdistillError(f"{folder}: is there already and is no empty folder; choose another")
    if format == "transformers":
        check_transformers(runs)
    whole = Path(os.path.abspath(folder))  # noqa: PTH100  (resolve() would follow links)
    _remove_leftovers(whole.parent)
    partial = temporary(whole)
    try:
        configs = [portable(run.config) for run in runs]
        for run, config in zip(runs, configs, strict=True):
            target = partial if run is source else partial / config.path
            if format == "transformers":
                write_transformers(run, target, run.steps if checkpoints == "all" else ())
                continue
            steps = run.steps if checkpoints == "all" else [run.resolve("last")]
            copy_run(run, target, config=config, provenance=provenance(run), steps=steps)
        if isinstance(source, Experiment) and format == "native":
            write_text(partial / EXPERIMENT, to_yaml(portable(source.config)))
        write_text(
            partial / "README.md",
            card(source, runs, configs, provenance(runs[0]), license, format, checkpoints == "all"),
        )
        partial.rename(whole)
    except OSError as error:
        raise MechdistillError(f"{folder}: cannot be written ({error.strerror}); free space or permit it") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _remove_leftovers(folder: Path) -> None:
    """Delete what a killed `publish` left beside the folder that it was to become."""
    with suppress(OSError):  # cannot be listed: then neither can it be written, which is told where it matters
        for path in folder.iterdir():
            if is_left_over(path) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def _finished(source: Run | Experiment) -> list[Run]:
    """The runs to publish; raises `MechdistillError` naming those that have not finished."""
    runs = [source] if isinstance(source, Run) else source.runs
    states = {run.name: run.status["state"] for run in runs}
    if isinstance(source, Experiment):
        states = {str(config.path): "waiting" for config in expand(source.config)} | states
    unfinished = [f"{name} is {state}" for name, state in states.items() if state != "finished"]
    if unfinished:
        raise MechdistillError(
            f"{source.path}: is not finished ({', '.join(unfinished)}); run `mechdistill train` to its end, or publish "
            "single runs"
        )
    return runs
