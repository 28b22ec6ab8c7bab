"""What binds a file to its run: every file carries its run's identity, inside its checksum.

A checksum says that a file is whole, not whose it is. A run's identity is a hash of its config.yaml, as it lies there,
and of the conditions that provenance.json says it was begun under (software, processor, teachers, users' definitions):
namesakes of another experiment, seed or arm differ in it, and so do trainings that need not have the same bits. The
text is hashed, not what it means to this version, so that one that adds a key disowns nothing.

status.json and provenance.json keep identity and checksum under one key. There status.json also says which files there
must be, and how far the log had got: what is missing is named, not passed over.

Version 3 of config.yaml was the first to do so. In directories of earlier ones, files that name no run pass.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mechdistill.errors import MechdistillError
from mechdistill.runs import _layout as layout
from mechdistill.runs._files import read_json, refuse_irregular, write_json, write_text
from mechdistill.runs._lock import is_held
from mechdistill.runs._status import INTERRUPTED, RUNNING, check_status

KEY = "binding"  # of status.json and provenance.json
SINCE = 3  # version of config.yaml


class Damaged(MechdistillError):  # noqa: N818  (a file is; nobody erred)
    """A file that is not as it was written, or another run's."""


class End(NamedTuple):
    """How far a log is written."""

    rows: int
    seal: str  # of its last row, and so of all before

    @classmethod
    def read(cls, value: Any) -> "End":
        """From JSON; raises ValueError or TypeError where it is none."""
        rows, seal = value
        if type(rows) is not int or rows < 0 or not isinstance(seal, str):
            raise ValueError
        return cls(rows, seal)


class Held(NamedTuple):
    """What status.json says lies in the directory."""

    files: tuple[str, ...] = ()  # paths inside it
    log: End | None = None  # None: it does not say


class Owner(NamedTuple):
    """A run, to which files may or may not belong."""

    path: Path
    identity: str
    strict: bool  # whether each of its files must say that it belongs to it

    def claim(self, file: Path, of: str | None) -> None:
        """Raise `Damaged` for a file that says it belongs to `of`, if that is another run."""
        if of == self.identity or (of is None and not self.strict):
            return
        whose = "does not say whose it is" if of is None else "belongs to another run"
        raise Damaged(
            f"{file}: {whose}, by {layout.CONFIG} and {layout.PROVENANCE} beside it; restore the run's own files"
        )


def identity(config: str, provenance: Mapping[str, Any]) -> str:
    """The identity of the run that has this config.yaml and this provenance.json."""
    conditions = json.dumps(provenance.get("conditions"), sort_keys=True)
    return hashlib.sha256(f"{config}\n{conditions}".encode()).hexdigest()[:32]


def owner(run: Path, config: str, version: Any) -> Owner:
    """The run of a directory; `config` is the text of its config.yaml.

    Raises `MechdistillError` if its provenance.json is missing, damaged, or another run's.
    """
    if not _is_strict(version) and not (run / layout.PROVENANCE).exists():
        return Owner(run, "", strict=False)
    return _noted(run, config, version)[1]


def provenance(run: Path, config: str, version: Any) -> dict[str, Any]:
    """A run's provenance; raises `MechdistillError` if it is missing, damaged, or another run's."""
    return _noted(run, config, version)[0]


def _noted(run: Path, config: str, version: Any) -> tuple[dict[str, Any], Owner]:
    """What provenance.json says, and whose it is."""
    file = run / layout.PROVENANCE
    record, of, _ = unsealed(file, read_json(file))
    found = Owner(run, identity(config, record), _is_strict(version))
    found.claim(file, of)
    return record, found


def _is_strict(version: Any) -> bool:
    """Whether a config.yaml of this version binds each of its run's files."""
    return isinstance(version, int) and version >= SINCE


def status(run: Path, config: str, version: Any) -> tuple[dict[str, Any], Held | None]:
    """A run's status, and what there must be (None: it does not say).

    Raises `MechdistillError` if status.json is damaged or another run's, or missing though the run has been trained.
    """
    file = run / layout.STATUS
    if not file.exists():
        if _is_strict(version) and layout.is_trained(run):
            raise Damaged(f"{file}: missing; restore it, or train again to have it and the run made anew")
        return {"state": "waiting"}, None
    record, of, held = unsealed(file, read_json(file))
    record = check_status(record, file)
    if record["state"] == RUNNING and not any(is_held(around) for around in run.resolve().parents[1:3]):
        record["state"] = INTERRUPTED  # whoever trained it was killed; a teacher's run lies a folder deeper
    if of is not None or layout.is_trained(run):  # a run that failed before it began has nothing to belong to
        owner(run, config, version).claim(file, of)
    return record, held


def steps(run: Path, status: Mapping[str, Any], held: Held | None) -> list[int]:
    """Steps that have a checkpoint; raises `Damaged` naming one that is missing, or that was not written by the run."""
    there = layout.checkpoint_steps(run)
    refuse_missing(run, held)
    if status["state"] != "finished":
        return there
    for step in there if held else ():
        path = layout.checkpoint_path(run, step)
        if held and path.relative_to(run).as_posix() not in held.files:
            raise Damaged(f"{path}: is no checkpoint that this run wrote; move it away")
    if status["step"] not in there:
        raise Damaged(f"{layout.checkpoint_path(run, status['step'])}: missing, though the run is finished; restore it")
    return there


def begin(run: Path, config: str, provenance: Mapping[str, Any]) -> Owner:
    """Write a run's first two files, on which its identity rests."""
    whose = Owner(run, identity(config, provenance), strict=True)
    write_text(run / layout.CONFIG, config)
    write_json(run / layout.PROVENANCE, sealed(provenance, whose.identity))
    return whose


def sealed(record: Mapping[str, Any], of: str, held: Held | None = None) -> dict[str, Any]:
    """A JSON record that belongs to a run, with its checksum."""
    bound: dict[str, Any] = {"of": of}
    if held is not None:
        bound |= {"files": list(held.files), "log": held.log and list(held.log)}
    whole = {**record, KEY: bound}
    return {**whole, KEY: {**bound, "sha256": _checksum(whole)}}


def unsealed(file: Path, record: Any) -> tuple[dict[str, Any], str | None, Held | None]:
    """A JSON record without its binding, the run that it belongs to, and what status.json holds.

    Raises `Damaged` unless its values are those that were written.
    """
    if not isinstance(record, dict):
        raise Damaged(f"{file}: damaged; restore it")
    plain = {key: value for key, value in record.items() if key != KEY}
    if KEY not in record:
        return plain, None, None
    try:
        bound = dict(record[KEY])
        if bound.pop("sha256") != _checksum({**plain, KEY: bound}):
            raise ValueError
        held = None
        if "files" in bound:
            log = End.read(bound["log"]) if bound["log"] else None
            held = Held(tuple(str(name) for name in bound["files"]), log)
        return plain, str(bound["of"]), held
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Damaged(f"{file}: damaged (its values are not those that were written); restore it") from None


def _checksum(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def refuse_missing(run: Path, held: Held | None) -> None:
    """Raise `Damaged` naming the first file that the status says there is and that is not there."""
    for name in held.files if held else ():
        refuse_irregular(run / name)
        if not (run / name).exists():
            raise Damaged(
                f"{run / name}: missing, though {layout.STATUS} says that it was written; restore it, or delete "
                f"{run} to have the run trained again"
            )
