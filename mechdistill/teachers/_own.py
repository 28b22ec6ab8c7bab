"""Teachers that a user defines, as a class or as a function, and what they must give: checked when first asked."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mechdistill.config import TEACHERS, Kind, TeacherConfig, Traits, definition_digest, kind_class, kind_of_function
from mechdistill.errors import MechdistillError
from mechdistill.teachers._protocol import Setting, Teacher, teacher_id
from mechdistill.world import Labels

Definition = type[Teacher] | Callable[..., Tensor]

_TAKES = (("tokens", "labels"), ("tokens", "labels", "of"))


class FunctionTeacher(Teacher):
    """A function of tokens, labels and, where its entry says `of`, another teacher's log-probabilities there."""

    def __init__(self, function: Callable[..., Tensor], config: TeacherConfig, parts: Sequence[Teacher]):
        self.entry = type(config)
        super().__init__(parts=parts)
        self._function = function
        self._settings = config.settings

    @classmethod
    def from_config(cls, config: TeacherConfig, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the function that is registered for the entry's kind."""
        function = TEACHERS[config.kind].implementation
        assert callable(function)
        return cls(function, config, parts)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Any:
        """What the function gives, whatever it is: `build_own` checks it."""
        of = [part.log_probs(tokens, labels) for part in self.parts]
        return self._function(tokens, labels, *of, **self._settings)


def own_kind(definition: Any, name: str | None, traits: Traits | None) -> Kind[TeacherConfig]:
    """A user's class or function as a kind of teacher; raises `MechdistillError` if it is neither as it should be."""
    name = name or _declared_kind(definition) or _name(definition)
    who = f"teacher '{name}'"
    if not isinstance(definition, type):
        config = _config_of_function(definition, name, who)
    elif not issubclass(definition, Teacher):
        raise MechdistillError(f"{who}: is no teacher; derive the class from mechdistill.teachers.Teacher")
    else:
        config = definition.entry = _config_of_class(definition, name, who)
    if traits is not None:
        config.traits = traits
    return Kind(config, definition)


def build_own(implementation: Any, config: TeacherConfig, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
    """The teacher of an entry whose kind is a user's. Its id knows its definition, and its first law is checked."""
    who = f"teacher '{config.kind}'"
    of = implementation if isinstance(implementation, type) else FunctionTeacher
    teacher = of.from_config(config, setting, parts)
    if not isinstance(teacher, Teacher) or not hasattr(teacher, "id"):
        raise MechdistillError(f"{who}: from_config must give a Teacher that has called super().__init__(parts=parts)")
    content = (teacher.id, config.model_dump_json(), definition_digest(TEACHERS, config.kind))
    teacher.id = teacher_id(config.kind, *content)
    _check_first(teacher, who, setting.world.vocab)
    return teacher


def _check_first(teacher: Teacher, who: str, vocab: int) -> None:
    """Refuse a law of another shape or type, or one that does not sum to 1, when it is first asked for."""
    unchecked = teacher.log_probs

    def checked(tokens: Tensor, labels: Labels) -> Tensor:
        found: Any = unchecked(tokens, labels)
        want = (*tokens.shape, vocab)
        if not isinstance(found, Tensor) or found.shape != want or found.dtype != torch.float32:
            raise MechdistillError(f"{who}: gave {_told(found)}; must be log-probabilities, float32 {list(want)}")
        total = found.exp().sum(dim=-1)
        off = (total - 1).abs().nan_to_num(nan=torch.inf)
        if off.max() > 1e-3:
            worst = float(total.flatten()[off.argmax()])
            raise MechdistillError(f"{who}: gave probabilities that sum to {worst:.4g}; must be 1: use log_softmax")
        teacher.log_probs = unchecked
        return found

    teacher.log_probs = checked


def _told(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def _config_of_function(function: Any, name: str, who: str) -> type[TeacherConfig]:
    parameters = inspect.signature(function).parameters.values() if inspect.isfunction(function) else ()
    positional = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    fields: dict[str, Any] = {"of": (str, ...)} if len(positional) == len(_TAKES[1]) else {}
    return kind_of_function(TeacherConfig, name, function, who, _TAKES, **fields)


def _config_of_class(definition: type[Teacher], name: str, who: str) -> type[TeacherConfig]:
    missing = ", ".join(sorted(getattr(definition, "__abstractmethods__", ())))
    if missing:
        raise MechdistillError(f"{who}: does not define {missing}; see mechdistill.teachers.Teacher")
    entry: Any = getattr(definition, "entry", TeacherConfig)
    if not (isinstance(entry, type) and issubclass(entry, TeacherConfig)):
        raise MechdistillError(
            f"{who}: its entry is {_told(entry)}; must be a class of mechdistill.config.TeacherConfig"
        )
    return kind_class(entry, name, who, doc=definition.__doc__)


def _declared_kind(definition: Any) -> str:
    return getattr(vars(definition).get("entry"), "kind_name", "") if isinstance(definition, type) else ""


def _name(definition: Any) -> str:
    """FirstHalf and first_half are first-half."""
    name = getattr(definition, "__name__", type(definition).__name__)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name) if isinstance(definition, type) else name
    return words.strip("_").replace("_", "-").lower()
