"""Row curves for the terminal: KL by row entropy at the last checkpoint, and copying by occurrence."""

from collections.abc import Iterator

import pandas as pd
from rich.table import Table

from mechdistill.cli._print import number, table
from mechdistill.tables import FIRST, SECOND, THIRD_ON, last_step, metrics, no_matching_by

_COPYING = (
    (metrics.COPY_LOSS, FIRST, "copy loss @1"),
    (metrics.COPY_ACCURACY, SECOND, "copy accuracy @2"),
    (metrics.COPY_ACCURACY, THIRD_ON, "@3+"),
    (metrics.NO_MATCHING, THIRD_ON, "no matching @3+"),
)


def row_curves(data: pd.DataFrame) -> Iterator[Table]:
    """One line a run."""
    curves = last_step(data)
    rows: list[list[str]] = []
    for run, part in curves.groupby("run", sort=False):
        by_row = part[part["row"].notna()]
        wide = by_row.pivot(index=["bucket", "row"], columns="metric", values="value").reset_index()
        cells = [str(run)]
        kl, positions = metrics.KL.name, metrics.POSITIONS.name
        for _, bucket in wide.groupby("bucket"):
            cells.append(number((bucket[kl] * bucket[positions]).sum() / bucket[positions].sum(), 4))
        copying = part[part["row"].isna()].set_index(["metric", "occurrence"])["value"]
        cells += [number(copying.get((metric.name, occurrence))) for metric, occurrence, _ in _COPYING]
        rows.append(cells)
    buckets = curves[curves["row"].notna()].groupby("bucket")["row_entropy"].agg(["min", "max"])
    headers = [f"KL, rows H {b['min']:.2f}-{b['max']:.2f}" for b in buckets.to_dict("records")]
    columns = ["run", *headers, *(label for _, _, label in _COPYING)]
    said = no_matching_by(curves)
    who = f"; no matching: {said}" if said else ""
    yield table(f"KL to the oracle by row entropy, and copying by occurrence (nats{who})", columns, rows)
