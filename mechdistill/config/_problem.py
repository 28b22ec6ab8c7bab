"""What is wrong with a config, in one line that a user can act on."""

from pydantic import ValidationError

# pydantic puts the discriminator into the path, where the user never wrote it
_UNIONS = {"rows", "triggers", "alpha", "label_smoothing", "seed", "step"}


def problem(error: ValidationError) -> str:
    """One line for the first thing wrong with a config: key=value, the rule, and the fix where there is one."""
    first, *others = error.errors()
    path = [str(part) for part in first["loc"] if part != "[key]"]
    for i in range(len(path) - 1, 0, -1):
        named = i == 2 and path[0] in ("arms", "teachers")  # path[1] is a name that the user chose
        if path[i - 1] in _UNIONS and not named:
            del path[i]
    where = ".".join(path)
    if first["type"] == "value_error":
        line = f"{where}.{first.get('ctx', {}).get('error')}" if where else str(first.get("ctx", {}).get("error"))
    elif first["type"] == "missing":
        line = f"{where}: missing; add it"
    elif first["type"] == "union_tag_invalid":
        line = f"{where}.kind={first['input'].get('kind')!r}: must be one of {first.get('ctx', {})['expected_tags']}"
    elif first["type"] == "union_tag_not_found":
        line = f"{where}.kind: missing; say which kind it is"
    else:
        message = first["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
        rule = message if message.startswith(("Field", "String", "Dict", "Tuple", "Unable")) else f"must be {message}"
        line = f"{where}={first['input']!r}: {rule}"
    return f"{line} (and {len(others)} more)" if others else line
