"""The only writer of run directories while a run is training."""

import json
import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechdistill.config import RunConfig, to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs._files import read_json, read_text, write_json, write_table, write_text
from mechdistill.runs._weights import Weights, load_weights, save_weights
from mechdistill.tables import frame, with_run


def numerics() -> dict[str, str]:
    """What has to be equal for two machines to compute the same bits."""
    return {
        "mechdistill": metadata.version("mechdistill"),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "machine": platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


class RunWriter:
    """Writes one run: config and provenance first, then checkpoints and metrics, `finished` last."""

    def __init__(self, root: Path, config: RunConfig):
        self.path = root / config.path
        self.config = config

    @property
    def state(self) -> str:
        """running, interrupted, failed or finished; waiting where nothing has been written."""
        path = self.path / layout.STATUS
        return str(read_json(path)["state"]) if path.exists() else "waiting"

    def begin(self) -> None:
        """Lay down what the run is and where it runs; a run that is already there keeps its own record."""
        if not (self.path / layout.CONFIG).exists():
            write_json(self.path / layout.PROVENANCE, _provenance())
            write_text(self.path / layout.CONFIG, to_yaml(self.config))

    def status(self, state: str, *, step: int, tokens: int, seconds: float, message: str | None = None) -> None:
        """Replace status.json."""
        value: dict[str, Any] = {"state": state, "step": step, "steps": self.config.steps, "tokens": tokens}
        value["seconds"] = round(seconds, 3)
        if message is not None:
            value["message"] = message
        write_json(self.path / layout.STATUS, value)

    def checkpoint(self, step: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Store the weights after `step` steps."""
        save_weights(layout.checkpoint_path(self.path, step), weights, {"step": str(step)})

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append metric rows of one step."""
        lines = [json.dumps({"step": step, "tokens": tokens, **row}, allow_nan=False) for row in rows]
        with (self.path / layout.METRICS_LOG).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def save_resume(self, tensors: Mapping[str, torch.Tensor], step: int, seconds: float) -> None:
        """Store all that continuing from `step` needs."""
        record = {"step": str(step), "seconds": f"{seconds:.3f}", "numerics": json.dumps(numerics())}
        save_weights(self.path / layout.RESUME, tensors, record)

    def load_resume(self) -> Weights | None:
        """The state to continue from, or None to start afresh; the metrics log is cut back to its step.

        Raises `MechdistillError` where continuing could not be bit-exact, saying what differs.
        """
        path = self.path / layout.RESUME
        if not path.exists():
            (self.path / layout.METRICS_LOG).unlink(missing_ok=True)
            return None
        state = load_weights(path)
        then, now = json.loads(state.metadata["numerics"]), numerics()
        different = [f"{key} was {then.get(key)!r} and is {now[key]!r}" for key in now if then.get(key) != now[key]]
        if different:
            raise MechdistillError(
                f"{self.path}: cannot resume bit-exactly ({'; '.join(different)}); "
                "resume where it was started, or delete the run to train it afresh"
            )
        self._cut_log(int(state.metadata["step"]))
        return state

    def finish(self) -> None:
        """Turn the log into a table and drop the state that only resuming needs."""
        write_table(self.path / layout.METRICS, metrics_table(self.path, self.config))
        shutil.rmtree((self.path / layout.RESUME).parent, ignore_errors=True)

    def _cut_log(self, step: int) -> None:
        path = self.path / layout.METRICS_LOG
        kept: list[str] = []
        for line in read_text(path).splitlines() if path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the half line that a kill left behind
                break
            if row["step"] > step:
                break
            kept.append(f"{line}\n")
        write_text(path, "".join(kept))


def metrics_table(run: Path, config: RunConfig) -> pd.DataFrame:
    """The metrics log as a long table with the run's columns."""
    rows: list[dict[str, Any]] = []
    for line in read_text(run / layout.METRICS_LOG).splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # a line that is being written
            break
    when = pd.DataFrame({key: [row.pop(key) for row in rows] for key in ("step", "tokens")}, dtype="Int64")
    table = with_run(when, run=str(config.path), arm=config.arm, seed=config.seed)
    return pd.concat([table, frame("metrics", rows)], axis=1)


def _provenance() -> dict[str, Any]:
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "numerics": numerics(),
        "packages": {
            name: metadata.version(name) for name in ("torch", "numpy", "transformer-lens", "safetensors", "pydantic")
        },
    }
