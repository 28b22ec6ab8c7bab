"""By what a world is known again: the same config may make another one, on a machine that breaks a tie otherwise.

A fingerprint is equal on every machine that makes the same world, though their sums round differently: what is whole
numbers is kept as such, and of matrices a few weighted sums, which are compared to a relative 1e-6.
"""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mechdistill.world._world import KnownWorld, World

_SUMS = 6  # of each matrix
_TOLERANCE = 1e-6  # relative; BLAS kernels differ by 1e-12 or so
_SEQUENCES = 8  # held-out sequences that stand for a world without a law
_WORDS = {
    "bucket": "quartiles of the rows",
    "pi": "transition matrix",
    "rate": "trigger rates",
    "frequencies": "frequencies of the tokens",
    "sequences": "held-out sequences",
    "start_token": "start token",
    "seq_len": "length",
}


def fingerprint(world: World) -> dict[str, Any]:
    """A short record, fit for JSON, of all that a world derives from its config: numbers, texts and lists of them.

    Triggers, start token, quartiles of rows and symbols exactly; six sums of the transition matrix, of trigger rates
    and of the frequencies of tokens, weighted by fixed numbers in [1, 2) (all terms are positive, so that no rounding
    grows). A world that does not know its law shows its first eight held-out sequences instead.
    """
    record: dict[str, Any] = {
        "vocab": int(world.vocab),
        "seq_len": int(world.seq_len),
        "triggers": [int(token) for token in world.triggers],
        "start_token": int(world.start_token),
        "symbols": _hash("\n".join(world.symbols).encode()),
    }
    if not isinstance(world, KnownWorld):
        return record | {"sequences": _hash(world.evaluation(_SEQUENCES).sequences.numpy().astype("<i8").tobytes())}
    return record | {
        "bucket": _hash(np.asarray(world.bucket).astype("<i8").tobytes()),
        "pi": _sums(world.pi),
        "rate": _sums(world.rate[None]),
        "frequencies": _sums(world.start_law[None]),
    }


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], names: tuple[str, str] = ("here", "when trained")
) -> list[str]:
    """In what two fingerprints differ, in words; what only one of them knows is no difference."""
    found: list[str] = []
    for key, value in one.items():
        if key in other and not _equal(value, other[key]):
            name, ours, theirs = _WORDS.get(key, key), _shown(value), _shown(other[key])
            found.append(f"{name} {ours} {names[0]}, {theirs} {names[1]}" if ours else f"another {name}")
    return found


def _sums(matrix: NDArray[np.float64]) -> list[float]:
    """u·M·v for fixed u and v."""
    rng = np.random.Generator(np.random.Philox(0))
    left, right = 1 + rng.random((_SUMS, matrix.shape[0])), 1 + rng.random((_SUMS, matrix.shape[1]))
    return [float(u @ (matrix @ v)) for u, v in zip(left, right, strict=True)]


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float | int):
        return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=1e-12)
    return one == other


def _shown(value: Any) -> str:
    """What can be read of a value: nothing of hashes and sums."""
    if isinstance(value, list) and all(isinstance(part, int) for part in value):
        return f"({', '.join(map(str, value))})"
    return str(value) if isinstance(value, int) else ""
