"""YAML 1.2 in and out, bounded: a text of a kilobyte can mean a billion values.

ruamel's pure-Python safe loader, because YAML 1.1 readers take 3e-3 for a string and `no` for false.
"""

import re
from io import StringIO
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mechdistill.errors import MechdistillError, one_line

MOST_CHARACTERS = 500_000
_MOST_MARKS = 30_000  # what a parser stops at: about 30 µs each
_MOST_VALUES = 100_000  # with aliases written out
_MOST_LEVELS = 32
_MOST_OPEN = 500  # brackets at a time, counted without reading: those in quotes too

_MARK = re.compile(r"[\[\]{},:&*?|>!\n]")
_EXPONENT = re.compile(r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+")


class _Constructor(SafeConstructor):
    """Reads 3e6 as the whole number that it is; 3000000.0 stays a float."""

    def construct_yaml_float(self, node: Any) -> Any:
        value = super().construct_yaml_float(node)
        exact = _EXPONENT.fullmatch(node.value) and abs(value) < 2**53 and value.is_integer()
        return int(value) if exact else value


_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_yaml_float)


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML 1.2 document, safely loaded; `source` names it in errors."""
    _refuse_length(text, source)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        constructor, _ = yaml.get_constructor_parser(text)
        node = constructor.composer.get_single_node()
        if node is None:
            return None
        _refuse_size(node, source)
        return constructor.construct_document(node)
    except RecursionError:
        raise _too_deep(source) from None
    except (YAMLError, ValueError, TypeError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}, line {mark.line + 1}" if mark else source
        what = (
            getattr(error, "problem", None) or str(error).partition("\n")[0].partition(";")[0] or type(error).__name__
        )
        raise MechdistillError(f"{where}: not valid YAML ({one_line(what, 200)}); correct the line") from None


def to_yaml(config: BaseModel) -> str:
    """A resolved experiment or run as a file that says all of it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[attr-defined]  # keep the order of the schema
    yaml.width = 100
    out = StringIO()
    yaml.dump(config.model_dump(mode="json"), out)
    return out.getvalue()


def _refuse_length(text: str, source: str) -> None:
    """Raise `MechdistillError` for a text that would take seconds to parse."""
    if len(text) > MOST_CHARACTERS:
        raise MechdistillError(f"{source}: has {len(text):,} characters; must be at most {MOST_CHARACTERS:,}")
    marks, opened = 0, 0
    for mark in _MARK.finditer(text):
        marks += 1
        opened += (mark[0] in "[{") - (mark[0] in "]}")
        if opened > _MOST_OPEN:
            raise _too_deep(source)
    if marks > _MOST_MARKS:
        raise MechdistillError(f"{source}: has about {marks:,} values; must be at most {_MOST_MARKS:,}; shorten it")


def _refuse_size(root: Node, source: str) -> None:
    """Raise `MechdistillError` if the document is too deep, contains itself, or is too large once its aliases, which
    are shared nodes here, are written out."""
    sizes: dict[int, int] = {}  # of nodes by id; 0 while inside

    def size(node: Node, level: int) -> int:
        known = sizes.get(id(node))
        if known == 0:
            raise MechdistillError(f"{source}: an alias stands for what contains it; write its value out")
        if known is not None:
            return known
        if level > _MOST_LEVELS:
            raise _too_deep(source)
        sizes[id(node)] = 0
        total = 1
        if not isinstance(node, ScalarNode):
            assert isinstance(node, MappingNode | SequenceNode)
            for part in node.value:
                total += sum(size(each, level + 1) for each in (part if isinstance(part, tuple) else (part,)))
        if total > _MOST_VALUES:
            raise MechdistillError(
                f"{source}: means over {_MOST_VALUES:,} values, its aliases (*) written out; use fewer of them"
            )
        sizes[id(node)] = total
        return total

    size(root, 0)


def _too_deep(source: str) -> MechdistillError:
    return MechdistillError(f"{source}: is nested more than {_MOST_LEVELS} levels deep; flatten it")
