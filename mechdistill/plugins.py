"""Loading a user's own file: what it defines with `@md.head_score`, `@md.teacher` and the like works like our own.

A run directory never causes a file to be loaded: the user names it, here or with --plugin on the command line.
"""

import hashlib
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mechdistill.errors import MechdistillError
from mechdistill.registry import SESSION, Origin, Registry


class Loaded(NamedTuple):
    """A user's file that has been read."""

    digest: str  # SHA-256 of the file and of what lies beside it
    module: ModuleType
    beside: dict[str, Path]  # modules of the same folder that it imported


_loaded: dict[Path, Loaded] = {}


def plugin(path: str | Path) -> ModuleType:
    """Load a file of definitions and return it as a module; one that has changed since is loaded anew.

    Definitions carry the SHA-256 of the file and of the modules beside it that it imports. Either all of them are
    registered or, where the file fails or a name is taken, none: then `MechdistillError` says why in one line.
    """
    file = Path(path).resolve()
    if file.suffix != ".py" or not file.is_file():
        raise MechdistillError(f"--plugin {path}: no such file; name a Python file, ending in .py")
    last = _loaded.get(file)
    if last is not None and last.digest == _digest(file, last.beside):
        return last.module
    states = [(registry, registry.state()) for registry in Registry.every]
    for registry in Registry.every:
        registry.drop(str(file))
    for name in last.beside if last else ():
        sys.modules.pop(name, None)  # or the old one would be imported again
    before = set(sys.modules)
    try:
        module = _execute(file)
    except (Exception, SystemExit) as error:
        for registry, state in states:
            registry.restore(state)
        if isinstance(error, MechdistillError):
            raise MechdistillError(f"--plugin {path}: {error}") from None
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f", line {lines[-1]}" if lines else ""
        raise MechdistillError(f"--plugin {path}{where}: {type(error).__name__}: {error}; mend the file") from None
    beside = _beside(file, set(sys.modules) - before - {module.__name__})
    digest = _digest(file, beside)
    for registry in Registry.every:
        registry.redigest(str(file), digest)
    _loaded[file] = Loaded(digest, module, beside)
    return module


def loaded() -> dict[str, str]:
    """The files that have been loaded, with their digests."""
    return {str(file): one.digest for file, one in _loaded.items()}


def _execute(file: Path) -> ModuleType:
    name = f"mechdistill_plugin_{file.stem}"
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.path.insert(0, str(file.parent))
    sys.modules[name] = module  # as an import does, so that what the file defines knows its module
    Registry.loading = Origin(str(file), "")
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        Registry.loading = SESSION
        sys.path.remove(str(file.parent))
    return module


def _beside(file: Path, names: set[str]) -> dict[str, Path]:
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in sorted(names)}
    paths = {name: Path(found).resolve() for name, found in files.items() if found}
    return {name: p for name, p in paths.items() if p.is_relative_to(file.parent) and "site-packages" not in p.parts}


def _digest(file: Path, beside: dict[str, Path]) -> str:
    total = hashlib.sha256(file.read_bytes())
    for path in beside.values():
        total.update(path.relative_to(file.parent).as_posix().encode() + path.read_bytes())
    return total.hexdigest()
