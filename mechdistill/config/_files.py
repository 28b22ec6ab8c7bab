"""Experiment files, presets, and `--set` overrides."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mechdistill import arguments
from mechdistill.config._experiment import ExperimentConfig, experiment
from mechdistill.config._yaml import MOST_CHARACTERS, parse_yaml
from mechdistill.errors import MechdistillError, did_you_mean, named, quoted
from mechdistill.reading import read_regular


def read_experiment(path: Path) -> Any:
    """The raw mapping of an experiment file, unchecked."""
    try:
        text = read_regular(path, 4 * MOST_CHARACTERS).decode("utf-8-sig")
    except FileNotFoundError:
        fix = (
            f"--preset {path}"
            if str(path) in preset_names()
            else "`mechdistill presets` lists what can run without one"
        )
        raise MechdistillError(f"{path}: no such experiment file; {fix}") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise MechdistillError(f"{path}: cannot be read as a text file ({reason})") from None
    return parse_yaml(text, str(path))


_MOST_PARTS = 16  # of a dotted key


def preset_names() -> list[str]:
    """Names of the presets."""
    return sorted(p.name.removesuffix(".yaml") for p in _preset_dir().iterdir() if p.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """A preset's file, comments included."""
    if not isinstance(name, str) or name not in preset_names():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise MechdistillError(f"preset {quoted(name)}: no such preset; {did_you_mean(str(name), preset_names())}")
    return (_preset_dir() / f"{name}.yaml").read_text(encoding="utf-8")


def preset(name: str) -> Any:
    """The raw mapping of a preset."""
    return parse_yaml(preset_text(name), f"preset {name}")


def _preset_dir() -> Any:
    return resources.files("mechdistill.config") / "presets"


def with_settings(data: Any, settings: list[str]) -> Any:
    """`data` with each KEY=VALUE applied; KEY is a dotted path, VALUE is YAML."""
    for setting in settings:
        key, equals, value = setting.partition("=")
        path = key.strip().split(".")
        where = f"--set {named(setting)}"
        if not equals or not all(path) or len(path) > _MOST_PARTS:
            raise MechdistillError(f"{where}: must be KEY=VALUE with a dotted key, like training.lr=3e-3")
        if path[0] not in ExperimentConfig.model_fields:
            raise MechdistillError(f"{where}: unknown key '{named(key)}'; {did_you_mean(key, _dotted_keys())}")
        data = _replaced(data, path, parse_yaml(value, where), where)
    return data


def _replaced(data: Any, path: list[str], value: Any, where: str) -> Any:
    head, *rest = path
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise MechdistillError(f"{where}: '{named(head)}' lies inside a value that has no keys; shorten the path")
    return {**data, head: _replaced(data.get(head), rest, value, where) if rest else value}


def _dotted_keys() -> list[str]:
    keys = list(ExperimentConfig.model_fields)
    for section in ("sandbox", "model", "training"):
        keys += [f"{section}.{k}" for k in type(ExperimentConfig.model_fields[section].default).model_fields]
    return keys


def load_experiment(
    path: str | Path | None = None, *, preset_name: str | None = None, settings: Sequence[str] | None = None
) -> ExperimentConfig:
    """The checked experiment of a file or a preset (default quickstart), with KEY=VALUE settings applied."""
    if path is not None and preset_name is not None:
        raise MechdistillError(f"{quoted(path)} and preset {quoted(preset_name)}: give one of the two")
    changes = arguments.words(() if settings is None else settings, "settings", "training.lr=1e-3")
    if path is None:
        data = preset("quickstart" if preset_name is None else preset_name)
    elif isinstance(path, str) and path in preset_names() and not Path(path).exists():
        raise MechdistillError(f"{path}: no such experiment file, but a preset: load_experiment(preset_name='{path}')")
    else:
        data = read_experiment(arguments.path(path, "path"))
    return experiment(with_settings(data, list(changes)))
