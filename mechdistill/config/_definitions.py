"""What a run depends on besides its config: the definitions that a user made of teachers, divergences and signals."""

import hashlib
import inspect
from types import CodeType
from typing import Any

from mechdistill.config._divergences import DIVERGENCES
from mechdistill.config._routing import SIGNALS
from mechdistill.config._run import RunConfig
from mechdistill.config.teachers import TEACHERS
from mechdistill.registry import Origin, Registry


def definitions(run: RunConfig) -> dict[str, Origin]:
    """The users' entries that a run depends on, like 'teacher blurred': where each comes from, and its digest."""
    arms = [arm for arm in (run.objective, run.matched) if arm is not None and arm.distils]
    used: list[tuple[Registry[Any], str]] = [(TEACHERS, teacher.kind) for teacher in run.teachers.values()]
    used += [(DIVERGENCES, arm.divergence.kind) for arm in arms]
    used += [(SIGNALS, arm.routing.signal) for arm in arms if arm.routing is not None]
    return {
        f"{registry.kind} {name}": Origin(origin.where, definition_digest(registry, name))
        for registry, name in used
        if (origin := registry.origin(name)) is not None
    }


def definition_digest(registry: Registry[Any], name: str) -> str:
    """A hash of a user's definition, by which a resumed run knows it again; empty for one of ours.

    Of one in a file it is the digest of the file; of one made in a session, of its source as far as Python knows it.
    """
    origin = registry.origin(name)
    if origin is None:
        return ""
    return origin.digest or hashlib.sha256(_source(registry[name].implementation).encode()).hexdigest()


def _source(definition: Any) -> str:
    try:
        return inspect.getsource(definition)
    except (OSError, TypeError):  # typed at a prompt
        members = list(vars(definition).values()) if isinstance(definition, type) else [definition]
        functions = [getattr(member, "__func__", member) for member in members]
        written = [f for f in functions if inspect.isfunction(f)]
        return "\n".join(f"{_bytecode(f.__code__)} {f.__defaults__} {f.__kwdefaults__}" for f in written)


def _bytecode(code: CodeType) -> str:
    constants = [_bytecode(each) if isinstance(each, CodeType) else repr(each) for each in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
