"""Row curves for the terminal: KL by row entropy at the last checkpoint, and copying by occurrence."""

from collections.abc import Iterator

import pandas as pd

from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import FIRST, SECOND, THIRD_ON, last_step, metrics, no_matching_by

_COPYING = (
    (metrics.COPY_LOSS, FIRST, f"{metrics.COPY_LOSS.name} @1"),
    (metrics.COPY_ACCURACY, SECOND, f"{metrics.COPY_ACCURACY.name} @2"),
    (metrics.COPY_ACCURACY, THIRD_ON, f"{metrics.COPY_ACCURACY.name} @3+"),
    (metrics.NO_MATCHING, THIRD_ON, f"{metrics.NO_MATCHING.name} @3+"),
)


def row_curves(data: pd.DataFrame) -> Iterator[Grid]:
    """One line a run."""
    curves = last_step(data)
    rows: list[list[str]] = []
    for run, part in curves.groupby("run", sort=False):
        by_row = part[part["row"].notna()]
        wide = by_row.pivot(index=["bucket", "row"], columns="metric", values="value").reset_index()
        cells = [str(run), str(part["step"].iloc[0])]
        kl, positions = metrics.KL.name, metrics.POSITIONS.name
        for _, bucket in wide.groupby("bucket"):
            cells.append(number((bucket[kl] * bucket[positions]).sum() / bucket[positions].sum(), 4))
        copying = part[part["row"].isna()].set_index(["metric", "occurrence"])["value"]
        cells += [number(copying.get((metric.name, occurrence))) for metric, occurrence, _ in _COPYING]
        rows.append(cells)
    buckets = curves[curves["row"].notna()].groupby("bucket")["row_entropy"].agg(["min", "max"])
    headers = [f"KL, rows H {b['min']:.2f}-{b['max']:.2f}" for b in buckets.to_dict("records")]
    columns = ["run", "step", *headers, *(label for _, _, label in _COPYING)]
    said = no_matching_by(curves)
    unit = f"nats; no matching: {said}" if said else "nats"
    drop = (*headers[1:-1], _COPYING[0][2])  # the ends of the range of entropies tell most
    yield table(f"KL to the oracle by row entropy, and copying by occurrence ({unit})", columns, rows, drop=drop)
