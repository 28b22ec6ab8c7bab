"""Tensors on disk: safetensors with checksums of what they hold and say. Nothing here can execute code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from mechdistill.errors import MechdistillError
from mechdistill.runs._binding import Damaged
from mechdistill.runs._files import refuse_irregular, write_bytes

_FIX = "restore it, or delete the run to train it afresh"


class Weights(NamedTuple):
    """Named tensors and the text that was stored beside them."""

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of the tensors, in the order of their names."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_weights(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors atomically, with their digest, and one of all that is said beside them.

    The same tensors and metadata give the same bytes.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    said = {**metadata, "sha256": digest(plain)}
    write_bytes(path, _ordered(safetensors.torch.save(plain, {**said, "seal": _seal(said)})))


def _seal(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()


def _ordered(data: bytes) -> bytes:
    """A safetensors file with its metadata by name: the library writes them in another order every time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def load_weights(path: Path) -> Weights:
    """Read tensors and check them, and what is said beside them.

    Raises `MechdistillError` naming a file that is missing or cannot be read, `Damaged` if it is cut short or altered.
    """
    refuse_irregular(path)
    try:
        path.open("rb").close()  # what the disk refuses is no damage
    except FileNotFoundError:
        raise MechdistillError(f"{path}: missing; restore it, or delete the run to train it afresh") from None
    except OSError as error:
        raise MechdistillError(f"{path}: cannot be read ({error.strerror}); permit it") from None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise Damaged(f"{path}: corrupt ({error}); {_FIX}") from None
    seal = metadata.pop("seal", None)  # absent where no file named its run
    unsealed = seal is None and "of" not in metadata
    if metadata.get("sha256") != digest(tensors) or not (unsealed or seal == _seal(metadata)):
        raise Damaged(f"{path}: corrupt (its contents do not match its sha256); {_FIX}")
    return Weights(tensors, metadata)
