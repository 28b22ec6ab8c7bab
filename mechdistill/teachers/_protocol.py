"""What a teacher is: a law of the next token at every position, and an id that hashes what gives it."""

import hashlib
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.sandbox import Labels


@runtime_checkable
class Teacher(Protocol):
    """Gives soft targets. Opens no files, trains nothing, never sees the next token."""

    @property
    def id(self) -> str:
        """Kind and a hash of everything that determines the targets."""
        ...

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log p(next token | tokens[:, :pos+1]), normalised, nats; -inf where the teacher excludes a token."""
        ...


def teacher_id(kind: str, content: bytes) -> str:
    """`kind-` and 12 hex digits of the SHA-256 of what the teacher is."""
    return f"{kind}-{hashlib.sha256(content).hexdigest()[:12]}"
