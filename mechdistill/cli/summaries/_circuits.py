"""The circuit for the terminal: the edges that recover most, and the set of heads against random sets."""

from collections.abc import Hashable, Iterator
from typing import Any

import pandas as pd

from mechdistill.circuits import parse_head
from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import last_step, p_value
from mechdistill.tables.metrics import (
    COMPLETENESS,
    COPY_GAP,
    FAITHFULNESS,
    MINIMALITY,
    PATH_ATTRIBUTION,
    PATH_RECOVERED,
)

_SHOWN = 12  # edges


def circuits(data: pd.DataFrame) -> Iterator[Grid]:
    """Of each run at its last checkpoint, one table of edges and, where there is a circuit, one of sets."""
    for run, part in last_step(data).groupby("run", sort=False):
        step = int(part["step"].iloc[0])
        yield _edges(f"{run} at step {step}", part)
        if (part["metric"] == FAITHFULNESS.name).any():
            yield _sets(f"{run} at step {step}", part)


def _edges(of: str, part: pd.DataFrame) -> Grid:
    gap = part[part["metric"] == COPY_GAP.name]
    patched = part[part["metric"] == PATH_RECOVERED.name]
    if gap.empty or patched.empty:
        cells = [[number(row["value"]), p_value(row["p"])] for row in gap.to_dict("records")]
        title = f"{of}: tells no copy from another, so no edge recovers any"
        return table(title, ["copy gap, logits", "p"], cells, right=0)
    keys = ["source", "reader", "input"]
    screen = part[part["metric"] == PATH_ATTRIBUTION.name].set_index(keys)["value"]
    strongest = patched.sort_values("value", ascending=False, key=abs).head(_SHOWN)
    rows = [
        [
            _named(row),
            number(row["value"], 3),
            number(row["null"], 3),
            number(float(screen[*(row[key] for key in keys)]), 3),
            "" if pd.isna(row["composition"]) else f"{row['composition']:.3f} ({row['chance']:.3f})",
        ]
        for row in strongest.to_dict("records")
    ]
    title = f"{of}: what of the copy gap ({number(gap['value'].item())} logits) single edges recover"
    title += f", {len(rows)} of {len(patched)}" if len(rows) < len(patched) else ""
    return table(title, ["edge", "recovered", "null", "attribution", "composition (chance)"], rows)


def _named(row: dict[Hashable, Any]) -> str:
    kind = "" if row["input"] in ("mlp", "logits") else f"{row['input'].upper()} of "
    return f"{row['source']} -> {kind}{row['reader']}"


def _sets(of: str, part: pd.DataFrame) -> Grid:
    rows: list[list[str]] = []
    heads = ""
    for metric in (FAITHFULNESS, COMPLETENESS):
        these = part[part["metric"] == metric.name]
        found, random_sets = these[~these["control"]], these[these["control"]]["value"]
        heads = str(found["heads"].item())
        spread = f"{random_sets.mean():.3f} ({random_sets.min():.3f} to {random_sets.max():.3f})"
        rows.append([metric.name, number(found["value"].item(), 3), spread, p_value(found["p"].item())])
    needed = part[part["metric"] == MINIMALITY.name]
    for row in needed.to_dict("records"):
        name = str(parse_head(f"{int(row['layer'])}.{int(row['head'])}"))
        rows.append([f"{MINIMALITY.name} of {name}", number(row["value"], 3), "", ""])
    return table(f"{of}: the copy circuit {heads} as a set", ["", "circuit", "random sets of as many", "p"], rows)
