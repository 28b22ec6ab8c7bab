"""What has to be equal for two sessions to compute the same bits, and the record of where a run was made."""

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mechdistill.errors import MechdistillError
from mechdistill.plugins import loaded


def numerics(device: str) -> dict[str, str]:
    """Versions, processor, device and threads: bit-exact resume is promised where all of these agree."""
    return {
        "mechdistill": metadata.version("mechdistill"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "machine": platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "device": device,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


class _Record(BaseModel):
    """What provenance.json holds; earlier and later versions may note more."""

    model_config = ConfigDict(strict=True)

    created: str = ""
    python: str = ""
    revision: str = ""
    conditions: dict[str, str] = Field(default={})
    packages: dict[str, str] = Field(default={})
    plugins: list[dict[Literal["file", "sha256"], str]] = Field(default=[])


def check_provenance(record: Any, path: Path) -> dict[str, Any]:
    """A record as it was read; raises `MechdistillError` if it is none that `provenance` could have made."""
    try:
        _Record.model_validate(record)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "all of it"
        raise MechdistillError(f"{path}: damaged (at {where}); restore it") from None
    return record


def provenance(conditions: dict[str, str]) -> dict[str, Any]:
    """When, where and with what a run was started; `conditions` are what its bits depend on.

    `plugins` are the user's files that were loaded, by name alone: what reads a run directory never loads them.
    """
    files = [{"file": Path(path).name, "sha256": digest} for path, digest in loaded().items()]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "conditions": conditions,
        "packages": {
            name: metadata.version(name) for name in ("torch", "numpy", "transformer-lens", "safetensors", "pydantic")
        },
        **({"plugins": files} if files else {}),
    }
