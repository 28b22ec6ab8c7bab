"""The only writer of run directories while a run is training."""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mechdistill.config import RunConfig, definitions, to_yaml
from mechdistill.errors import MechdistillError, quoted
from mechdistill.runs import _binding, _metrics
from mechdistill.runs import _layout as layout
from mechdistill.runs._binding import Damaged, End, Held, Owner
from mechdistill.runs._files import read_json, refuse_inner_links, write_json, write_text
from mechdistill.runs._numerics import provenance
from mechdistill.runs._run import Run
from mechdistill.runs._same import differing_keys
from mechdistill.runs._tables import write_table
from mechdistill.runs._weights import Weights, load_weights, save_weights


class RunWriter:
    """Writes one run: config and provenance first, then checkpoints and metrics, `finished` last."""

    def __init__(self, root: Path, config: RunConfig):
        self.root = root
        self.path = root / config.path
        self.config = config
        self._owner: Owner | None = None  # until it has begun
        self._files: list[str] = []  # written so far, and not to be missed
        self._log: End | None = None

    @property
    def status(self) -> dict[str, Any]:
        """As last written; its state is running, interrupted, failed or finished, or waiting where nothing is.

        A run whose status.json is gone is waiting: it begins anew.
        """
        if not (self.path / layout.STATUS).exists() or not (self.path / layout.CONFIG).exists():
            return {"state": "waiting"}
        return Run(self.path).status

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do.

        Raises `MechdistillError` where a file of a finished run is missing, or its metrics or last weights are not its
        own: nobody may be told that it is finished.
        """
        if self.status["state"] != "finished":
            return False
        run = Run(self.path)
        if not run.steps:
            return False
        run.weights("last")
        run.metrics()
        return True

    def check(self) -> None:
        """Raise `MechdistillError` if the directory holds another run than `config`, or leads elsewhere."""
        refuse_inner_links(self.root, self.path)
        if not (self.path / layout.CONFIG).exists() and not layout.is_trained(self.path):
            return
        stored = Run(self.path).config
        for key in differing_keys(stored, self.config):
            was, wanted = (config.model_dump(mode="json")[key] for config in (stored, self.config))
            if isinstance(was, dict) and isinstance(wanted, dict):  # the part that differs says more than the whole
                part = next((name for name in wanted if was.get(name) != wanted[name]), None)
                key, was, wanted = (
                    (key, was, wanted) if part is None else (f"{key}.{part}", was.get(part), wanted[part])
                )
            raise MechdistillError(
                f"{self.path / layout.CONFIG}: was made with another {key} ({quoted(was)}) than the experiment says "
                f"({quoted(wanted)}); restore its files or choose another directory"
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
                "directory"
            )

    def begin(self, conditions: dict[str, str], world: Mapping[str, Any]) -> Weights | None:
        """The state to continue from, or None to start afresh, with the directory ready for either.

        `conditions` are what the run's bits depend on besides its config, `world` is the fingerprint of its world.
        Raises `MechdistillError` where they differ from those of the state, since continuing would not be bit-exact,
        or where the log is not what the state says. A state that is damaged or another run's is dropped with a warning.
        """
        state = self._resumable()
        if state is None:
            self._refuse_other_than_twins(world)
            self._clear()
            self._owner = _binding.begin(
                self.path, to_yaml(self.config), provenance(conditions) | {"fingerprint": world}
            )
            self._log = _metrics.start(self._owner)
            self.set_status("running", step=0, tokens=0, seconds=0.0)
            return None
        self._refuse_other(state, conditions)
        run = Run(self.path)
        run.refuse_other_world(world)
        self._owner, step = run.owner, int(state.metadata["step"])
        held = _held(state, self.path, step)
        _binding.refuse_missing(self.path, held)
        self._files = list(held.files)
        self._log = held.log or _metrics.start(self._owner)
        tokens = step * self.config.training.batch * self.config.sandbox.seq_len
        self.set_status("running", step=step, tokens=tokens, seconds=float(state.metadata["seconds"]))
        self._log = _metrics.cut(self._owner, step, held.log)
        return state

    def _refuse_other_than_twins(self, world: Mapping[str, Any]) -> None:
        """Raise `MechdistillError` if another run here that says the same world was trained in a different one."""
        for config in sorted(self.root.glob(f"*/seed-*/{layout.CONFIG}")):
            run = Run(config.parent)
            if run.path != self.path and run.config.sandbox == self.config.sandbox and run.fingerprint:
                run.refuse_other_world(world)
                return

    def _resumable(self) -> Weights | None:
        """The stored state of this run, if there is one and it is sound."""
        path, status, reason = self.path / layout.RESUME, self.path / layout.STATUS, None
        if path.exists():
            try:
                state = load_weights(path)
                Run(self.path).owner.claim(path, state.metadata.get("of"))
                return state
            except Damaged as error:
                reason = str(error).rpartition(";")[0]
        elif layout.is_trained(self.path) and not status.exists():
            reason = f"{status}: missing"
        elif status.exists() and (said := read_json(status))["state"] == "interrupted" and said["step"] > 0:
            reason = f"{path}: missing"
        if reason:
            warnings.warn(f"{reason}; the run is trained afresh", stacklevel=4)
        return None

    def _clear(self) -> None:
        """Remove what an earlier attempt left: the state first, and with the status what vouches for the rest."""
        self.drop_resume()
        for name in (layout.STATUS, layout.PROVENANCE, layout.METRICS, layout.METRICS_LOG, layout.TARGETS):
            (self.path / name).unlink(missing_ok=True)
        for folder in ("checkpoints", "branches"):
            for path in (self.path / folder).glob("step-*.safetensors"):
                path.unlink()

    def branch_off(self, conditions: dict[str, str]) -> Weights:
        """The state of its trunk at the step where this run leaves it.

        Raises `MechdistillError` where that is missing, damaged or another run's, or the conditions differ.
        """
        assert self.config.branch is not None
        assert self.config.trunk_path is not None
        trunk = Run(self.root / self.config.trunk_path)
        path = layout.branch_path(trunk.path, self.config.branch.start)
        state = load_weights(path)
        trunk.owner.claim(path, state.metadata.get("of"))
        self._refuse_other(state, conditions)
        return state

    def _refuse_other(self, state: Weights, conditions: dict[str, str]) -> None:
        then = json.loads(state.metadata["conditions"])
        different = [
            f"{key} was {then.get(key)!r} and is {now!r}" for key, now in conditions.items() if then.get(key) != now
        ]
        if different:
            raise MechdistillError(
                f"{self.path}: cannot resume bit-exactly ({'; '.join(different)}); "
                "resume where it was started, or delete the run to train it afresh"
            )

    def set_status(self, state: str, *, step: int, tokens: int, seconds: float, message: str | None = None) -> None:
        """Replace status.json."""
        value: dict[str, Any] = {"state": state, "step": step, "steps": self.config.steps, "tokens": tokens}
        value["seconds"] = round(seconds, 3)
        if message is not None:
            value["message"] = message
        if self._owner is not None:
            value = _binding.sealed(value, self._owner.identity, Held(tuple(self._files), self._log))
        elif self.status["state"] != "waiting":  # it failed before it went on: what there was is still there
            run = Run(self.path)
            value = _binding.sealed(value, run.owner.identity, run.held) if run.held else value
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
        save_weights(path, weights, {"step": str(step), "run": str(self.config.path), "of": self._begun.identity})
        self._wrote(path)

    def log(self, step: int, tokens: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append metric rows of one step."""
        self._log = _metrics.append(self.path, self._log or _metrics.start(self._begun), step, tokens, rows)

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
        record |= {"of": self._begun.identity, "files": json.dumps(self._files), "log": json.dumps(self._log)}
        if not for_branch:  # where a branch leaves its trunk, the time until there is nobody's
            record["seconds"] = f"{seconds:.3f}"
        _metrics.sync(self.path)
        save_weights(path, tensors, record)
        if for_branch:
            self._wrote(path)

    def write_metrics(self) -> None:
        """Turn the log into a table."""
        path = self.path / layout.METRICS
        write_table(path, _metrics.table(self._begun, self.config, self._log), self._begun)
        self._wrote(path)

    def write_targets(self, table: pd.DataFrame) -> None:
        """Store what the run is taught, row by row."""
        write_table(self.path / layout.TARGETS, table, self._begun)
        self._wrote(self.path / layout.TARGETS)

    def drop_resume(self) -> None:
        """Remove the state that only resuming needs; call it once the run says that it is finished."""
        shutil.rmtree((self.path / layout.RESUME).parent, ignore_errors=True)

    @property
    def _begun(self) -> Owner:
        assert self._owner is not None, "begin() comes first"
        return self._owner

    def _wrote(self, path: Path) -> None:
        name = path.relative_to(self.path).as_posix()
        if name not in self._files:
            self._files.append(name)


def _held(state: Weights, run: Path, step: int) -> Held:
    """What there was when a state was stored: as it says or, where no file named its run, by what lies there."""
    if "of" in state.metadata:
        files, log = (json.loads(state.metadata[key]) for key in ("files", "log"))
        return Held(tuple(files), End.read(log))
    paths = [layout.checkpoint_path(run, known) for known in layout.checkpoint_steps(run) if known <= step]
    paths += [path for path in (run / layout.TARGETS,) if path.exists()]
    paths += sorted((run / "branches").glob("step-*.safetensors"))
    return Held(tuple(path.relative_to(run).as_posix() for path in paths))


def write_checks(experiment: Path, table: pd.DataFrame) -> None:
    """Store the manipulation checks of an experiment in its directory."""
    write_table(experiment / layout.CHECKS, table)
