"""`mechdistill runs show`: one run directory, looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mechdistill.cli._options import Json
from mechdistill.errors import MechdistillError

if TYPE_CHECKING:
    from mechdistill.runs import Run


def show_run(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory.")],
    json: Json = False,
) -> None:
    """One run: config, provenance, state, headline metrics, checkpoints and cached tables."""
    from mechdistill.runs import check_directory

    check_directory(directory)  # before torch is imported
    import pandas as pd

    from mechdistill.cli._console import show
    from mechdistill.cli._grid import Facts
    from mechdistill.cli._print import print_json
    from mechdistill.runs import Run, load

    run = load(directory)
    if not isinstance(run, Run):
        names = ", ".join(str(run.path / known.name) for known in run.runs) or "none yet"
        raise MechdistillError(f"{directory}: is an experiment; show one of its runs: {names}")
    row = _record(run)
    if json:
        print_json(pd.DataFrame([row]))
        return
    show([Facts(run.name, {key: str(value) for key, value in _lines(run, row).items()})])


def _lines(run: "Run", row: dict[str, Any]) -> dict[str, Any]:
    """What the terminal shows of a record."""
    from mechdistill.runs import network, treatment, world
    from mechdistill.tables import HEADLINES

    config = run.config
    steps, tables = row["checkpoints"], row["tables"]
    return {
        "experiment": config.experiment,
        "state": f"{row['state']}, step {row['step'] or 0} of {config.steps}, {row['tokens'] or 0:,} tokens"
        + (f", {row['seconds']:.0f} s" if row["seconds"] is not None else "")
        + (f": {row['message']}" if row["message"] else ""),
        "world": world(config.sandbox),
        "network": network(config.model),
        "treatment": treatment(config),
        "metrics": ", ".join(f"{h.name} {row[h.name]:.4g}" for h in HEADLINES if h.name in row) or "none yet",
        "checkpoints": f"{len(steps)}, from step {steps[0]} to {steps[-1]}" if steps else "none yet",
        "tables": ", ".join(f"{name} ({count})" for name, count in tables.items()) or "none cached",
        **{key: _brief(value) for key, value in row["provenance"].items() if key != "fingerprint"},
    }


def _record(run: "Run") -> dict[str, Any]:
    from collections import Counter

    from mechdistill.tables import headline

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
        "provenance": run.provenance if run.steps else {},  # a run that failed before it began has none
        "config": run.config.model_dump(mode="json"),
    }


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_brief(part) for part in value)
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
