"""Ablations for the terminal, by the primary kind: what each head and each set cost, controls indented, dearest first.

A column is a number of the table; what else the table holds, other kinds of ablation, is named above.
"""

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import pandas as pd

from mechdistill.circuits import ABLATIONS, Head, targets
from mechdistill.circuits.ablation import FULL, PATTERN_PRESERVING, Mode
from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import last_step
from mechdistill.tables.metrics import BIGRAM_KL_DELTA, COPY_LOSS_DELTA, SELF_REPAIR, Metric


class _Cell(NamedTuple):
    metric: Metric
    mode: Mode

    @property
    def heading(self) -> str:
        return self.metric.name + f", {self.mode.name}" * (self.mode is not FULL)


_CELLS = (
    _Cell(COPY_LOSS_DELTA, FULL),
    _Cell(COPY_LOSS_DELTA, PATTERN_PRESERVING),
    _Cell(SELF_REPAIR, FULL),
    _Cell(BIGRAM_KL_DELTA, FULL),
)


def ablate(data: pd.DataFrame) -> Iterator[Grid]:
    """One table a run, at its last checkpoint."""
    for run, part in last_step(data).groupby("run", sort=False):
        yield _of_run(str(run), part)


def _of_run(run: str, effects: pd.DataFrame) -> Grid:
    primary, *others = list(dict.fromkeys(effects["ablation"]))
    pooled = effects[effects["bucket"].isna() & (effects["ablation"] == primary)]
    found = set(zip(pooled["metric"], pooled["mode"], strict=True))
    cells = [cell for cell in _CELLS if (cell.metric.name, cell.mode.name) in found]
    named = pooled.assign(of=[_named(row) for row in pooled.to_dict("records")])
    draws = {
        key: dict(iter(part.groupby(["metric", "mode"])["value"])) for key, part in named.groupby("of", sort=False)
    }
    costs = named[(named["what"] == targets.HEAD.name) & (named["metric"] == cells[0].metric.name)]
    costs = costs[costs["mode"] == cells[0].mode.name].sort_values("value", ascending=False)
    order = dict.fromkeys([*costs["of"], *draws])
    rows = [[of, *(_spread(draws[of].get((cell.metric.name, cell.mode.name))) for cell in cells)] for of in order]
    step = int(effects["step"].iloc[0])
    title = f"{run} at step {step}: what {_label(primary)} costs (nats; controls indented, mean ± sd of their draws"
    title += f"; the table has {', '.join(map(_label, others))} too)" if others else ")"
    return table(title, ["heads", *(cell.heading for cell in cells)], rows)


def _named(row: dict[Hashable, Any]) -> str:
    """A line's name; controls come right after their half."""
    half, is_control, kind = str(row["what"]).partition(": ")
    if is_control:
        return f"  {kind}{' ' * (half == targets.PREVIOUS_TOKEN.name)}"  # apart from the other half's
    if half == targets.HEAD.name:
        return str(Head(int(row["layer"]), int(row["head"])))
    return f"{half} heads ({row['heads']})"


def _label(name: str) -> str:
    return ABLATIONS[name].label if name in ABLATIONS else name


def _spread(draws: "pd.Series[float] | None") -> str:
    """One value, or the mean and the standard deviation of several."""
    if draws is None:
        return number(None)
    return number(draws.mean()) + (f" ± {number(draws.std())}" if len(draws) > 1 else "")
