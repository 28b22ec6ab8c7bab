"""Head scores for the terminal: twins side by side, then every score of every head and head pair, best first."""

from collections.abc import Iterator

import pandas as pd
from rich.table import Table

from mechdistill.circuits import Head, copy_circuit, names, ranking
from mechdistill.cli._print import number, table
from mechdistill.tables import last_step

_PAIRS_SHOWN = 10


def induction_scores(data: pd.DataFrame) -> Iterator[Table]:
    """Of each run's last checkpoint in the table."""
    for seed, of_seed in last_step(data).groupby("seed", sort=False):
        is_pair = of_seed["source_layer"].notna()
        if not is_pair.all():
            yield _twins(int(str(seed)), of_seed[~is_pair])
        for run, part in of_seed.groupby("run", sort=False):
            pairs = part["source_layer"].notna()
            if not pairs.all():
                yield _by_head(str(run), part[~pairs])
            for metric, scores in part[pairs].groupby("metric", sort=False):
                yield _by_pair(f"{run}: {metric}", scores)


def _by_head(run: str, scores: pd.DataFrame) -> Table:
    """Every score of every head, in order of the ranking score."""
    metrics = list(dict.fromkeys(scores["metric"]))
    wide = scores.pivot(index=["layer", "head"], columns="metric", values="value")
    first = ranking(set(metrics)).name
    order = wide.sort_values(first if first in metrics else metrics[0], ascending=False)
    rows = [
        [str(Head(row["layer"], row["head"])), *(number(row[metric]) for metric in metrics)]
        for row in order.reset_index().to_dict("records")
    ]
    for label, column in (("chance", "chance"), ("null, best head", "null_max")):
        reference = scores.groupby("metric", sort=False)[column].first()
        rows.append([label, *(number(reference[metric]) for metric in metrics)])
    best_untrained = scores.groupby("metric", sort=False)["untrained"].max()
    rows.append(["untrained, best head", *(number(best_untrained[metric]) for metric in metrics)])
    step = int(scores["step"].iloc[0])
    return table(f"\n{run} at step {step}: head scores", ["head", *metrics], rows)


def _by_pair(title: str, scores: pd.DataFrame) -> Table:
    """The pairs of the largest values, whatever their sign."""
    largest = scores.sort_values("value", key=abs, ascending=False).head(_PAIRS_SHOWN)
    rows = [
        [
            str(Head(int(row["source_layer"]), int(row["source_head"]))),
            str(Head(int(row["layer"]), int(row["head"]))),
            *(number(row[column]) for column in ("value", "chance", "null_mean", "untrained")),
        ]
        for row in largest.to_dict("records")
    ]
    columns = ["from", "to", "value", "chance", "null", "untrained"]
    shown = f" ({len(rows)} of {len(scores)} pairs)" if len(rows) < len(scores) else ""
    return table(f"\n{title}{shown}", columns, rows, right=2)


def _twins(seed: int, scores: pd.DataFrame) -> Table:
    """The runs of one seed as columns: the heads of the copy circuit, then all heads by the ranking score."""
    score = ranking(set(scores["metric"])).name
    columns: list[list[str]] = []
    for _, part in scores.groupby("run", sort=False):
        circuit = copy_circuit(part)
        ranked = part[part["metric"] == score].sort_values("value", ascending=False).to_dict("records")
        heads = [f"{Head(row['layer'], row['head'])} {number(row['value'])}" for row in ranked]
        columns.append([names(circuit.lookup) or "none", names(circuit.previous_token) or "none", *heads])
    longest = max(len(column) for column in columns)
    labels = ["lookup heads", "previous-token heads", *(f"{score} #{i + 1}" for i in range(longest - 2))]
    cells = [column + [""] * (longest - len(column)) for column in columns]
    rows = [list(row) for row in zip(labels, *cells, strict=True)]
    return table(f"seed {seed}, side by side", ["", *(str(run) for run in dict.fromkeys(scores["run"]))], rows)
