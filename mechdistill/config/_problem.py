"""What is wrong with a config, in one line that a user can act on."""

from typing import Any

from pydantic import ValidationError

from mechdistill.errors import named, quoted

# pydantic puts the discriminator into the path, where the user never wrote it
_UNIONS = {"rows", "triggers", "alpha", "label_smoothing", "seed", "seeds", "step", "rate"}
_MOST_OTHERS = 4  # keys that are named besides the first

# what a value has to be, in the words of YAML and not of Python; in braces what pydantic knows of the bound
_RULES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list, like [0, 1]",
    "list_type": "must be a list, like [0, 1]",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "too_short": "must have at least {min_length} of them",
    "too_long": "must have at most {max_length} of them",
    "string_too_long": "must have at most {max_length} characters",
}


def problem(error: ValidationError) -> str:
    """One line for the first thing wrong with a config: key=value, the rule, and the fix where there is one; and the
    keys of the others."""
    found: dict[str, list[Any]] = {}
    for each in error.errors(include_url=False):
        found.setdefault(_where(each["loc"]), []).append(each)
    # a list is also too short when its entries are wrong
    inner = {where: errors for where, errors in found.items() if not any(w.startswith(f"{where}.") for w in found)}
    (where, first), *others = inner.items()
    line = _line(where, first)
    if not others:
        return line
    keys = ", ".join(_key(where, each[0]) for where, each in others[:_MOST_OTHERS])
    more = f" and {len(others) - _MOST_OTHERS} more" if len(others) > _MOST_OTHERS else ""
    return f"{line} (also wrong: {keys}{more})"


def _where(loc: tuple[int | str, ...]) -> str:
    path = [named(str(part)) for part in loc if part != "[key]"]
    for i in range(len(path) - 1, 0, -1):
        is_a_name = i == 2 and path[0] in ("arms", "teachers")  # path[1] is a name that the user chose
        if path[i - 1] in _UNIONS and not is_a_name and not path[i].isdigit():
            del path[i]
    return ".".join(path)


def _key(where: str, error: Any) -> str:
    """Where another problem lies: an error of ours starts with the key itself."""
    if error["type"] != "value_error":
        return where
    key = str(error["ctx"]["error"]).partition(": ")[0].partition("=")[0]
    return named(f"{where}.{key}" if where else key)


def _line(where: str, errors: list[Any]) -> str:
    first = errors[0]
    if first["type"] == "value_error":
        return f"{where}.{first['ctx']['error']}" if where else str(first["ctx"]["error"])
    if first["type"] == "missing":
        return f"{where}: missing; add it"
    if first["type"] == "union_tag_invalid":
        return f"{where}.kind={quoted(first['input'].get('kind'))}: must be one of {first['ctx']['expected_tags']}"
    if first["type"] == "union_tag_not_found":
        return f"{where}.kind: missing; say which kind it is"
    rule, *more = dict.fromkeys(map(_rule, errors))  # of a union, each member's
    rule = " or ".join((rule, *(other.removeprefix("must be ") for other in more)))
    return f"{where}={quoted(first['input'])}: {rule}"


def _rule(error: Any) -> str:
    if error["type"] in _RULES:
        return _RULES[error["type"]].format_map(error.get("ctx", {}))
    return "must be " + error["msg"].removeprefix("Input should be ").removeprefix("must be ")
