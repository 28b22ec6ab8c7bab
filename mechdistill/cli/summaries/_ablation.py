"""Ablations for the terminal: what each head and each set cost, controls indented, dearest head first."""

from collections.abc import Iterator

import pandas as pd

from mechdistill.circuits import Head, targets
from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import last_step


def ablate(data: pd.DataFrame) -> Iterator[Grid]:
    """One table a run, at its last checkpoint."""
    for run, part in last_step(data).groupby("run", sort=False):
        yield _of_run(str(run), part)


def _of_run(run: str, effects: pd.DataFrame) -> Grid:
    pooled = effects[effects["bucket"].isna()]
    cells = list(dict.fromkeys(zip(pooled["metric"], pooled["ablation"], strict=True)))
    cells.sort(key=lambda cell: list(dict.fromkeys(pooled["metric"])).index(cell[0]))
    single, sets = pooled[pooled["what"] == targets.HEAD.name], pooled[pooled["what"] != targets.HEAD.name]
    wide = single.pivot(index=["layer", "head"], columns=["metric", "ablation"], values="value")
    wide = wide.sort_values(cells[0], ascending=False)
    rows = [
        [str(Head(int(layer), int(head))), *(number(wide.loc[(layer, head), cell]) for cell in cells)]
        for layer, head in wide.index.to_list()
    ]
    for what, part in sets.groupby("what", sort=False):
        draws = dict(iter(part.groupby(["metric", "ablation"])["value"]))
        half, is_control, kind = str(what).partition(": ")
        label = f"  {kind}" if is_control else f"{half} heads ({part['heads'].iloc[0]})"
        rows.append([label, *(_spread(draws.get(cell)) for cell in cells)])
    step = int(effects["step"].iloc[0])
    heads = [f"{metric}, {ablation}" for metric, ablation in cells]
    title = f"{run} at step {step}: what knocking out costs (nats; controls indented, mean ± sd of their draws)"
    return table(title, ["heads", *heads], rows)


def _spread(draws: "pd.Series[float] | None") -> str:
    """One value, or the mean and the standard deviation of several."""
    if draws is None:
        return number(None)
    return number(draws.mean()) + (f" ± {number(draws.std())}" if len(draws) > 1 else "")
