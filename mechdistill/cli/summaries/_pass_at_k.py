"""pass@k for the terminal: a table a task, one line a run."""

from collections.abc import Iterator

import pandas as pd

from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import TEMPERATURE, last_step, metrics

_KS = (1, 4, 16, 64, 256)
_AT = 16  # for what is shown at one k only


def pass_at_k(data: pd.DataFrame) -> Iterator[Grid]:
    """At temperature 1, and the highest pass@16 over temperatures."""
    for task, of_task in last_step(data).groupby("task", sort=False):
        rows: list[list[str]] = []
        for run, part in of_task.groupby("run", sort=False):
            at_one = part[part[TEMPERATURE.name].eq(1) | part[TEMPERATURE.name].isna()]
            value = at_one.set_index(["metric", "exact", "k"])["value"]
            swept = part[(part["metric"] == metrics.PASS_AT_K.name) & part["exact"] & (part["k"] == _AT)]
            best = swept.nlargest(1, "value").iloc[0]
            vote = at_one[at_one["metric"] == metrics.MAJORITY_VOTE.name]["value"]
            rows.append(
                [
                    str(run),
                    str(part["step"].iloc[0]),
                    *(number(value.get((metrics.PASS_AT_K.name, True, k)), 4) for k in _KS),
                    number(value.get((metrics.PASS_AT_K.name, False, _AT)), 4),
                    number(value.get((metrics.PASS_AT_K_OPTIMUM.name, True, _AT)), 4),
                    number(value.get((metrics.REGRET.name, True, _AT)), 4),
                    f"{best['value']:.4f} at {best[TEMPERATURE.name]:g}",
                    number(vote.iloc[0], 4),
                ]
            )
        mass = of_task[of_task["metric"] == metrics.ENUMERATED_MASS.name]["value"].mean()
        voted = of_task[of_task["metric"] == metrics.MAJORITY_VOTE.name].iloc[0]
        how = "exact" if voted["exact"] else "from samples"
        told = f", solutions drawn from {mass:.0%} of the world's law" if mass < 1 else ""
        columns = [
            "run",
            "step",
            *(f"pass@{k}" for k in _KS),
            f"@{_AT} sampled",
            f"@{_AT} possible",
            f"@{_AT} regret",
            f"@{_AT} best temperature",
            f"vote of {voted['k']} ({how})",
        ]
        title = f"pass@k, {task}: exact, at temperature 1{told}"
        yield table(title, columns, rows, drop=(columns[7], columns[5], columns[3], columns[8]))
