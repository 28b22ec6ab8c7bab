"""`mechdistill runs show` and `mechdistill publish`: one run directory, looked at and handed on."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from mechdistill.cli._print import print_json, stderr, stdout, table
from mechdistill.errors import MechdistillError
from mechdistill.publishing import publish
from mechdistill.runs import Run, load, network, treatment, world
from mechdistill.tables import HEADLINES, headline


def show_run(directory: Path, as_json: bool) -> None:
    """What one run is, how far it is and what it came to."""
    run = load(directory)
    if not isinstance(run, Run):
        names = ", ".join(str(run.path / known.name) for known in run.runs) or "none yet"
        raise MechdistillError(f"{directory}: is an experiment; show one of its runs: {names}")
    row = _record(run)
    if as_json:
        print_json(pd.DataFrame([row]))
        return
    config = run.config
    steps, tables = row["checkpoints"], row["tables"]
    lines: dict[str, Any] = {
        "experiment": f"{config.experiment}, arm {config.treatment}, seed {config.seed}",
        "state": f"{row['state']}, step {row['step'] or 0} of {config.steps}, {row['tokens'] or 0:,} tokens"
        + (f", {row['seconds']:.0f} s" if row["seconds"] is not None else "")
        + (f": {row['message']}" if row["message"] else ""),
        "world": world(config.sandbox),
        "network": network(config.model),
        "treatment": treatment(config),
        "metrics": ", ".join(f"{h.column} {row[h.column]:.4g}" for h in HEADLINES if h.column in row) or "none yet",
        "checkpoints": f"{len(steps)}, from step {steps[0]} to {steps[-1]}" if steps else "none yet",
        "tables": ", ".join(f"{name} ({count})" for name, count in tables.items()) or "none cached",
        **{key: _brief(value) for key, value in row["provenance"].items()},
    }
    stdout().print(table(run.name, ["", ""], [[key, str(value)] for key, value in lines.items()], right=2))


def publish_directory(directory: Path, folder: Path, checkpoints: Literal["all", "last"], license: str | None) -> None:
    """Publish, and say what to do with it."""
    publish(load(directory), folder, checkpoints=checkpoints, license=license)
    stderr.print(f"{folder}: published; read its README.md before you pass it on")


def _record(run: Run) -> dict[str, Any]:
    status: dict[str, Any] = {"step": None, "tokens": None, "seconds": None, "message": None, **run.status}
    tables = Counter(table.measure for table in run.cached_tables())
    return {
        "run": run.name,
        "experiment": run.config.experiment,
        "arm": run.config.treatment,
        "seed": run.config.seed,
        **{key: status[key] for key in ("state", "step", "tokens", "seconds", "message")},
        "path": str(run.path),
        **(headline(run.metrics()) if run.steps else {}),
        "checkpoints": run.steps,
        "tables": dict(tables),
        "provenance": run.provenance,
        "config": run.config.model_dump(mode="json"),
    }


def _brief(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
