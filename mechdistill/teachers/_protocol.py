"""What a teacher is: a law of the next token at every position, and an id that hashes what gives it."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import TeacherConfig, Traits
from mechdistill.model import Model
from mechdistill.world import Labels, Stream, World


class Moment(NamedTuple):
    """Where the student's training is when a teacher is asked."""

    step: int  # optimiser steps taken, from 0
    steps: int  # of the whole run
    seed: int  # the student's

    @property
    def fraction(self) -> float:
        """How much of the run is done, in [0, 1]; 1 only at the last evaluation."""
        return self.step / self.steps

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers that depend on seed, step and purpose alone, so that resuming draws the same."""
        return torch.Generator().manual_seed(_int64(f"{purpose}:{self.seed}:{self.step}"))


class Teacher(ABC):
    """Gives soft targets. Opens no files, trains nothing, never sees the next token."""

    entry: type[TeacherConfig]
    """What its entry in the experiment file is: its kind, settings and traits."""
    name: str = ""
    """Of its entry in the experiment file, if it has one."""
    id: str
    """Kind and a hash of everything that determines the targets, parts included."""
    parts: tuple["Teacher", ...]
    """The teachers that it is made of."""
    traits: Traits
    """Its own: those of its kind, unless it is one that, say, needs no draws."""
    changes: bool
    """Whether the same tokens can get other targets at another step of the student's training."""

    def __init__(self, *content: str | bytes, parts: "Sequence[Teacher]" = (), traits: Traits | None = None):
        """`content` is all that determines the targets besides the parts."""
        self.parts = tuple(parts)
        self.id = teacher_id(self.kind, *content, *(part.id for part in self.parts))
        self.traits = self.entry.traits if traits is None else traits
        moves = self.traits.draws or self.traits.moves
        self.changes = moves or any(part.changes for part in self.parts)

    @property
    def kind(self) -> str:
        """Its kind's name in the experiment file."""
        return self.entry.kind_name

    def expected(self) -> "Teacher | None":
        """The teacher whose law at a moment is the mean of this one's over its draws; None where it is not worked out.

        Itself if nothing is drawn. An objective's floor needs it: in expectation forward KL is smallest at this law.
        Of teachers made of a drawn one `Sampled`, `Ensemble` and `Splice` have it; `Noisy` and `Permuted` would have
        such a mean as well.
        """
        return None if any(one.traits.draws for one in everyone(self)) else self

    @abstractmethod
    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log p(next token | tokens[:, :pos+1]), normalised, nats, float32; -inf where it excludes a token.

        Tokens and labels are on the CPU; the law is wherever it was computed (`_devices`), and moved by who asks.
        """

    @classmethod
    def from_config(cls, config: Any, setting: "Setting", parts: "Sequence[Teacher]") -> "Teacher":
        """The teacher of its entry in the experiment file; `parts` are those that the entry names, in order.

        Unless a kind says otherwise its arguments are its parts and, by keyword, its settings.
        """
        make: Any = cls
        return make(*parts, **config.settings)

    def advance(self, moment: Moment, student: Model) -> None:  # noqa: B027  (most teachers stay what they are)
        """Called before the student's step `moment.step`, and before each evaluation; parts are called on their own."""

    def state(self) -> dict[str, Tensor]:
        """What resuming needs besides the moment; parts are asked on their own."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:  # noqa: B027
        """Put back what `state` gave."""


@dataclass(frozen=True)
class Setting:
    """What a teacher can be built from besides its entry."""

    name: str  # its own
    world: World
    data: Stream  # the student's
    seed: int  # the student's
    trained: Callable[[str, float], Model]
    """The model of a checkpoint teacher by name, at a fraction of its training (1: the last checkpoint)."""


def everyone(teacher: Teacher) -> Iterator[Teacher]:
    """A teacher and all that it is made of, parts first, each once."""
    seen: dict[int, Teacher] = {}

    def visit(one: Teacher) -> None:
        if id(one) in seen:
            return
        for part in one.parts:
            visit(part)
        seen[id(one)] = one

    visit(teacher)
    return iter(seen.values())


def teacher_id(kind: str, *content: str | bytes) -> str:
    """`kind-` and 12 hex digits of the SHA-256 of what the teacher is."""
    digest = hashlib.sha256()
    for part in content:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8) + data)  # with lengths, so that no two lists of parts look alike
    return f"{kind}-{digest.hexdigest()[:12]}"


def _int64(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1
