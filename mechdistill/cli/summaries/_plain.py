"""Any measure for the terminal: one line for each place that it has a value of, one column for each metric."""

from collections.abc import Iterator

import pandas as pd

from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import METRIC_COLUMNS, Measure, last_step, metric

_SHOWN = 40  # lines


def plain(measure: Measure, data: pd.DataFrame) -> Iterator[Grid]:
    """The table of each run's last checkpoint, with the columns that hold anything."""
    last = last_step(data)
    own = [c.name for c in measure.columns if c not in METRIC_COLUMNS]
    keys = ["run", "step", *(name for name in own if last[name].notna().any() and last[name].dtype != "float64")]
    metrics = list(dict.fromkeys(last["metric"]))
    wide = last.pivot_table(index=keys, columns="metric", values="value", sort=False, dropna=False, observed=True)
    wide = wide.dropna(how="all").reset_index()
    rows = [
        [*("" if pd.isna(row[key]) else str(row[key]) for key in keys), *(number(row[name]) for name in metrics)]
        for row in wide.head(_SHOWN).to_dict("records")
    ]
    shown = f" ({_SHOWN} of {len(wide)} lines; --json gives all)" if len(wide) > _SHOWN else ""
    units = [f"{name}, {unit}" if (unit := metric(name).unit) else name for name in metrics]
    yield table(f"{measure.name}{shown}", [*keys, *units], rows, right=len(keys))
