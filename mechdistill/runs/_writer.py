"""The only writer of run directories while a run is training."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechdistill.config import RunConfig, definitions, to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs import _metrics
from mechdistill.runs._files import refuse_inner_links, write_json, write_text
from mechdistill.runs._numerics import provenance
from mechdistill.runs._read import Run
from mechdistill.runs._same import differing_keys
from mechdistill.runs._status import read_status
from mechdistill.runs._tables import write_table
from mechdistill.runs._weights import Weights, load_weights, save_weights


class RunWriter:
    """Writes one run: config and provenance first, then checkpoints and metrics, `finished` last."""

    def __init__(self, root: Path, config: RunConfig):
        self.root = root
        self.path = root / config.path
        self.config = config

    @property
    def status(self) -> dict[str, Any]:
        """As last written; its state is running, interrupted, failed or finished, or waiting where nothing is."""
        return read_status(self.path)

    def check(self) -> None:
        """Raise `MechdistillError` if the directory holds another run than `config`, or leads elsewhere."""
        refuse_inner_links(self.root, self.path)
        if not (self.path / layout.CONFIG).exists():
            return
        stored = Run(self.path).config
        for key in differing_keys(stored, self.config):
            was, wanted = (config.model_dump(mode="json")[key] for config in (stored, self.config))
            raise MechdistillError(
                f"{self.path}: was made with another {key} ({was!r}) than the experiment says ({wanted!r}); "
                "restore its files or choose another --out"
            )
        if (self.path / layout.PROVENANCE).exists():
            self._check_definitions()

    def _check_definitions(self) -> None:
        """Raise `MechdistillError` if what a user defined for the run has changed since: it would be another run."""
        now = {f"{what} {origin.digest}" for what, origin in definitions(self.config).items()}
        noted: str = Run(self.path).provenance.get("conditions", {}).get("definitions", "")
        changed = sorted({text.rpartition(" ")[0] for text in now ^ (set(noted.split(", ")) - {""})})
        if changed:
            raise MechdistillError(
                f"{self.path}: was made with another definition of {', '.join(changed)}; restore it, or choose another "
                "--out"
            )

    def begin(self, conditions: dict[str, str]) -> Weights | None:
        """The state to continue from, or None to start afresh, with the directory ready for either.

        `conditions` are what the run's bits depend on besides its config. Raises `MechdistillError` where they
        differ from those of the state, since continuing would not be bit-exact.
        """
        path = self.path / layout.RESUME
        if not path.exists():
            write_json(self.path / layout.PROVENANCE, provenance(conditions))
            write_text(self.path / layout.CONFIG, to_yaml(self.config))
            (self.path / layout.METRICS_LOG).unlink(missing_ok=True)
            return None
        state = self._continued(path, conditions)
        _metrics.cut(self.path, int(state.metadata["step"]))
        return state

    def branch_off(self, conditions: dict[str, str]) -> Weights:
        """The state of its trunk at the step where this run leaves it; raises like `begin`."""
        assert self.config.branch is not None
        assert self.config.trunk_path is not None
        trunk = self.root / self.config.trunk_path
        return self._continued(layout.branch_path(trunk, self.config.branch.start), conditions)

    def _continued(self, path: Path, conditions: dict[str, str]) -> Weights:
        state = load_weights(path)
        then = json.loads(state.metadata["conditions"])
        different = [
            f"{key} was {then.get(key)!r} and is {now!r}" for key, now in conditions.items() if then.get(key) != now
        ]
        if different:
            raise MechdistillError(
                f"{self.path}: cannot resume bit-exactly ({'; '.join(different)}); "
                "resume where it was started, or delete the run to train it afresh"
            )
        return state

    def set_status(self, state: str, *, step: int, tokens: int, seconds: float, message: str | None = None) -> None:
        """Replace status.json."""
        value: dict[str, Any] = {"state": state, "step": step, "steps": self.config.steps, "tokens": tokens}
        value["seconds"] = round(seconds, 3)
        if message is not None:
            value["message"] = message
        write_json(self.path / layout.STATUS, value)

    def fail(self, message: str) -> None:
        """Say why the run ended; a directory in which it had not begun yet becomes that of a run all the same."""
        try:
            status = self.status
        except MechdistillError:  # damaged: what failed now matters more
            status = {}
        if not (self.path / layout.CONFIG).exists():
            write_text(self.path / layout.CONFIG, to_yaml(self.config))
        done: dict[str, Any] = {"step": 0, "tokens": 0, "seconds": 0.0, **status}
        self.set_status("failed", step=done["step"], tokens=done["tokens"], seconds=done["seconds"], message=message)

    def checkpoint(self, step: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Store the weights after `step` steps, with the run and step that they belong to."""
        path = layout.checkpoint_path(self.path, step)
        save_weights(path, weights, {"step": str(step), "run": str(self.config.path)})

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append metric rows of one step."""
        _metrics.append(self.path, step, tokens, rows)

    def save_state(
        self,
        tensors: Mapping[str, torch.Tensor],
        step: int,
        seconds: float,
        conditions: dict[str, str],
        *,
        for_branch: bool = False,
    ) -> None:
        """Store all that continuing from `step` needs: for this run, or for good, for a branch that leaves there."""
        path = layout.branch_path(self.path, step) if for_branch else self.path / layout.RESUME
        record = {"step": str(step), "conditions": json.dumps(conditions)}
        if not for_branch:  # where a branch leaves its trunk, the time until there is nobody's
            record["seconds"] = f"{seconds:.3f}"
        save_weights(path, tensors, record)

    def write_metrics(self) -> None:
        """Turn the log into a table."""
        write_table(self.path / layout.METRICS, _metrics.table(self.path, self.config))

    def write_targets(self, table: pd.DataFrame) -> None:
        """Store what the run is taught, row by row."""
        write_table(self.path / layout.TARGETS, table)

    def drop_resume(self) -> None:
        """Remove the state that only resuming needs; call it once the run says that it is finished."""
        shutil.rmtree((self.path / layout.RESUME).parent, ignore_errors=True)
