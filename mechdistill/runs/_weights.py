"""Tensors on disk: safetensors with a checksum of what they hold. Nothing here can execute code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from mechdistill.errors import MechdistillError
from mechdistill.runs._files import refuse_irregular, write_bytes


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
    """Write tensors atomically, with their digest: the same tensors and metadata give the same bytes."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, _ordered(safetensors.torch.save(plain, {**metadata, "sha256": digest(plain)})))


def _ordered(data: bytes) -> bytes:
    """A safetensors file with its metadata by name: the library writes them in another order every time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def load_weights(path: Path) -> Weights:
    """Read tensors and check them; raises `MechdistillError` naming a file that is missing, cut short or altered."""
    refuse_irregular(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except FileNotFoundError:
        raise MechdistillError(f"{path}: no such checkpoint") from None
    except (SafetensorError, OSError) as error:
        raise MechdistillError(f"{path}: corrupt ({error}); delete it, or train the run again") from None
    if metadata.get("sha256") != digest(tensors):
        raise MechdistillError(
            f"{path}: corrupt (its contents do not match its sha256); delete it, or train the run again"
        )
    return Weights(tensors, metadata)
