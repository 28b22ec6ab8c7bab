"""A run written anew somewhere else: every file is checked on the way, so nothing that is not understood goes along."""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mechdistill.config import RunConfig, to_yaml
from mechdistill.errors import MechdistillError
from mechdistill.runs import _binding
from mechdistill.runs import _layout as layout
from mechdistill.runs._binding import Held
from mechdistill.runs._files import write_json
from mechdistill.runs._run import Run
from mechdistill.runs._tables import read_measured, read_table, write_table
from mechdistill.runs._weights import save_weights
from mechdistill.tables import MEASURES

_STATUS = ("state", "step", "steps", "tokens", "seconds")


def copy_run(run: Run, target: Path, *, config: RunConfig, provenance: Mapping[str, Any], steps: Iterable[int]) -> None:
    """Write config, provenance, status, metrics, targets, the checkpoints of `steps` and cached tables of `run`.

    `config` and `provenance` are written in place of the run's own. Raises `MechdistillError` where a file is damaged;
    a damaged cached table, or one of a measure that nobody knows, is left out with a warning.
    """
    owner = _binding.begin(target, to_yaml(config), provenance)
    write_table(target / layout.METRICS, run.metrics(), owner)
    files = [layout.METRICS]
    targets = run.targets()
    if targets is not None:
        write_table(target / layout.TARGETS, targets, owner)
        files.append(layout.TARGETS)
    for step in steps:
        path = layout.checkpoint_path(target, step)
        save_weights(path, run.weights(step), {"step": str(step), "run": run.name, "of": owner.identity})
        files.append(path.relative_to(target).as_posix())
    status = {key: run.status[key] for key in _STATUS}
    write_json(target / layout.STATUS, _binding.sealed(status, owner.identity, Held(tuple(files))))
    known = run.cached_tables()
    for path in set((run.path / "tables").glob("*.parquet")) - {table.path for table in known}:
        warnings.warn(f"left out: {path}: is no table of ours", stacklevel=4)
    for table in known:
        try:
            copy = read_table(table.path, MEASURES[table.measure].all_columns, run.owner)
            write_table(target / "tables" / table.path.name, copy, owner, read_measured(table.path))
        except MechdistillError as error:
            warnings.warn(f"left out: {error}", stacklevel=4)
