"""Loading a user's own file: what it defines with `@md.head_score`, `@md.teacher` and the like works like our own.

A run directory never causes a file to be loaded: the user names it, here or with --plugin on the command line.
"""

import ast
import hashlib
import sys
import traceback
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mechdistill import arguments
from mechdistill.errors import MechdistillError
from mechdistill.registry import Origin, Registry


class Loaded(NamedTuple):
    """A user's file that has been read."""

    digest: str  # SHA-256 of the file and of its neighbours
    module: ModuleType
    neighbours: dict[str, Path]  # modules of the same folder that it imports, itself or through each other


_loaded: dict[Path, Loaded] = {}


def plugin(path: str | Path) -> ModuleType:
    """Load a file of definitions and return it as a module; one that has changed since is loaded anew.

    Definitions carry the SHA-256 of the file and of the Python files beside it that it imports, wherever in the file it
    does so; not of data that it reads. Either all of them are registered or, where the file fails or a name is taken,
    none: then `MechdistillError` says why in one line.
    """
    file = arguments.path(path, "path").resolve()
    if file.suffix != ".py" or not file.is_file():
        raise MechdistillError(f"plugin {path}: no such file; name a Python file, ending in .py")
    states = [(registry, registry.state()) for registry in Registry.every]
    try:
        neighbours = _neighbours(file)
        digest = _digest(file, neighbours)
        last = _loaded.get(file)
        if last is not None and last.digest == digest:
            return last.module
        for registry in Registry.every:
            registry.drop(str(file))
        for name in last.neighbours if last else ():
            sys.modules.pop(name, None)  # or the old one would be imported again
        module = _execute(file, digest)
        _refuse_namesakes(neighbours)
    except BaseException as error:
        before = {id(registry): state for registry, state in states}
        for registry in Registry.every:
            if id(registry) in before:
                registry.restore(before[id(registry)])
            else:  # made meanwhile, of a room that the file was the first to need
                registry.drop(str(file))
        if isinstance(error, MechdistillError):
            raise MechdistillError(f"plugin {path}: {error}") from None
        if not isinstance(error, Exception | SystemExit):
            raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        where = f", line {lines[-1]}" if lines else ""
        raise MechdistillError(f"plugin {path}{where}: {type(error).__name__}: {error}; mend the file") from None
    _loaded[file] = Loaded(digest, module, neighbours)
    return module


def loaded() -> dict[str, str]:
    """The files that have been loaded, with their digests."""
    return {str(file): one.digest for file, one in _loaded.items()}


def _execute(file: Path, digest: str) -> ModuleType:
    # two files of one name are two modules
    name = f"mechdistill_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # last, so that it hides nothing; for good, since a function may import later
    sys.modules[name] = module  # as an import does, so that what the file defines knows its module
    outer, Registry.loading = Registry.loading, Origin(str(file), digest)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        Registry.loading = outer
    return module


def _neighbours(file: Path) -> dict[str, Path]:
    """The Python files in a file's folder that it imports, or that these import, by module name.

    Read off their text, so that it does not matter what has been imported before, or will be.
    """
    found: dict[str, Path] = {}

    def visit(path: Path) -> None:
        for name in _imported(path):
            place = file.parent.joinpath(*name.split("."))
            for candidate in (place.with_suffix(".py"), place / "__init__.py"):
                if candidate.is_file() and candidate != file and name not in found:
                    found[name] = candidate
                    visit(candidate)

    visit(file)
    return dict(sorted(found.items()))


def _imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, with the packages around them."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(name.split(".")[: i + 1]) for name in names for i in range(name.count(".") + 1)}


def _refuse_namesakes(neighbours: dict[str, Path]) -> None:
    """Raise `MechdistillError` where a neighbour's name has brought in another file, of another folder or a library."""
    for name, path in neighbours.items():
        there = getattr(sys.modules.get(name), "__file__", None)
        if there and Path(there).resolve() != path:
            raise MechdistillError(f"imports {name}, which is {there} already, not {path.name} beside it; rename it")


def _digest(file: Path, neighbours: dict[str, Path]) -> str:
    total = hashlib.sha256(file.read_bytes())
    for path in neighbours.values():
        total.update(path.relative_to(file.parent).as_posix().encode() + path.read_bytes())
    return total.hexdigest()
