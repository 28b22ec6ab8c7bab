"""A user's function as a kind: its keyword-only parameters are the settings that the experiment file can give."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pydantic import Field, create_model
from pydantic.errors import PydanticUserError

from mechdistill.config._kinds import KindConfig
from mechdistill.errors import MechdistillError

C = TypeVar("C", bound=KindConfig)


def kind_of_function(
    base: type[C], name: str, function: Callable[..., Any], who: str, takes: Sequence[Sequence[str]], **fields: Any
) -> type[C]:
    """The config class of a function. `takes` are the positional parameters that it may have; `fields` are added.

    Raises `MechdistillError`, starting with `who`, if it has others.
    """
    positional, settings = _parameters(function, who, base)
    if len(positional) not in {len(names) for names in takes}:
        rule = " or ".join(f"({', '.join(names)})" for names in takes)
        given = ", ".join(positional)
        raise MechdistillError(f"{who}: takes ({given}); must take {rule}, and settings after a * by keyword")
    return kind_class(base, name, who, doc=function.__doc__, **fields, **settings)


def kind_class(base: type[C], name: str, who: str, *, doc: str | None = None, **fields: Any) -> type[C]:
    """A config class of a kind with more settings: pairs of a type and a pydantic field."""
    try:
        return create_model(name, __base__=base, __doc__=doc, __cls_kwargs__={"kind": name}, **fields)
    except PydanticUserError as error:
        raise MechdistillError(f"{who}: {str(error).splitlines()[0]}; settings have the types of YAML") from None


def _parameters(function: Callable[..., Any], who: str, base: type[KindConfig]) -> tuple[list[str], dict[str, Any]]:
    if not inspect.isfunction(function):  # anything else has no source by which a resumed run would know it again
        raise MechdistillError(f"{who}: is {type(function).__name__}; must be a function")
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (NameError, SyntaxError, TypeError) as error:
        raise MechdistillError(f"{who}: its signature cannot be read ({error}); mend its annotations") from None
    positional: list[str] = []
    settings: dict[str, Any] = {}
    for each in parameters:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise MechdistillError(f"{who}: takes {each}; must name its settings one by one")
        if each.kind is not each.KEYWORD_ONLY:
            positional.append(each.name)
            continue
        if hasattr(base, each.name) or each.name in base.model_fields or each.name.startswith(("_", "model_")):
            raise MechdistillError(f"{who}: setting '{each.name}': is a name that every entry has; rename it")
        if each.annotation is each.empty and each.default is each.empty:
            raise MechdistillError(f"{who}: setting '{each.name}': has no type; write {each.name}: float, say")
        kind = type(each.default) if each.annotation is each.empty else each.annotation
        needed = each.default is each.empty
        settings[each.name] = (kind, Field() if needed else Field(default=each.default, validate_default=True))
    return positional, settings
