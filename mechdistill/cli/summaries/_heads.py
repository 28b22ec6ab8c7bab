"""Head scores for the terminal: twins side by side, then every score of every head and head pair, best first."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from mechdistill.circuits import Head, copy_circuit, names, ranking
from mechdistill.circuits.scores import PREVIOUS_AFTER_TRIGGER
from mechdistill.cli._grid import Grid, table
from mechdistill.cli._print import number
from mechdistill.tables import last_step, since_half

_PAIRS_SHOWN = 3  # of each score
_HEADS_SHOWN = 16
_PLACE = ["run", "metric", "layer", "head", "source_layer", "source_head"]

_Since = dict[tuple[Any, ...], Any]
"""Steps, by what tells one score of one head or pair from another."""


def induction_scores(data: pd.DataFrame) -> Iterator[Grid]:
    """Of each run's last checkpoint in the table; of several, also since which step a score has stood."""
    moving = data.groupby("run")["step"].nunique().max() > 1
    since = _since_when(data) if moving else None
    for seed, of_seed in last_step(data).groupby("seed", sort=False):
        by_head = of_seed["head"].notna() & of_seed["source_layer"].isna()
        if by_head.any():
            yield _twins(int(str(seed)), of_seed[by_head])
        for run, part in of_seed.groupby("run", sort=False):
            heads, pairs = part["head"].notna() & part["source_layer"].isna(), part["source_layer"].notna()
            if heads.any():
                order = _order(part[heads])
                yield _by_head(str(run), part[heads], order)
                if since is not None:
                    yield _since(str(run), part[heads], order, since)
            if part["head"].isna().any():
                yield _without_head(f"{run} at step {part['step'].iloc[0]}", part[part["head"].isna()], since)
            if pairs.any():
                yield _by_pair(f"{run} at step {part['step'].iloc[0]}", part[pairs], since)


def _since_when(data: pd.DataFrame) -> _Since:
    table = since_half(data, _PLACE)
    return {_place(row): row["since"] for row in table.to_dict("records")}


def _place(row: dict[Any, Any]) -> tuple[Any, ...]:
    return tuple(None if pd.isna(row[key]) else row[key] for key in _PLACE)


def _order(scores: pd.DataFrame) -> pd.DataFrame:
    """Heads by score, the best by the ranking score first."""
    metrics = list(dict.fromkeys(scores["metric"]))
    wide = scores.pivot(index=["layer", "head"], columns="metric", values="value")[metrics]
    first = ranking(set(metrics)).name
    return wide.sort_values(first if first in metrics else metrics[0], ascending=False)


def _by_head(run: str, scores: pd.DataFrame, order: pd.DataFrame) -> Grid:
    """Every score of every head, in order of the ranking score."""
    metrics = list(order.columns)
    rows = [
        [str(Head(row["layer"], row["head"])), *(number(row[metric]) for metric in metrics)]
        for row in order.head(_HEADS_SHOWN).reset_index().to_dict("records")
    ]
    for label, column in (("chance", "chance"), ("null, best head", "null_max")):
        reference = scores.groupby("metric", sort=False)[column].first()
        rows.append([label, *(number(reference[metric]) for metric in metrics)])
    best_untrained = scores.groupby("metric", sort=False)["untrained"].max()
    rows.append(["untrained, best head", *(number(best_untrained[metric]) for metric in metrics)])
    step = int(scores["step"].iloc[0])
    of = f" ({_HEADS_SHOWN} of {len(order)} heads)" if len(order) > _HEADS_SHOWN else ""
    return table(f"{run} at step {step}: head scores{of}", ["head", *metrics], rows, drop=_dearest_last(metrics))


def _since(run: str, scores: pd.DataFrame, order: pd.DataFrame, since: _Since) -> Grid:
    """The step from which on each score has been at least half of what it is at the last checkpoint."""
    metrics = list(order.columns)
    rows = [
        [
            str(Head(layer, head)),
            *(number(since.get((run, metric, layer, head, None, None)), 0) for metric in metrics),
        ]
        for layer, head in order.head(_HEADS_SHOWN).index.to_list()
    ]
    step = int(scores["step"].iloc[0])
    title = f"{run}: step since when a score is at least half of that at step {step}"
    return table(title, ["head", *metrics], rows, drop=_dearest_last(metrics))


def _dearest_last(metrics: list[str]) -> tuple[str, ...]:
    """The order in which scores are left out where there is no room: those that name the copy circuit go last."""
    name = (PREVIOUS_AFTER_TRIGGER.name, ranking(set(metrics)).name)
    return (*(metric for metric in reversed(metrics) if metric not in name), *(m for m in name[:1] if m in metrics))


def _without_head(title: str, scores: pd.DataFrame, since: _Since | None) -> Grid:
    """Scores of layers and of the model."""
    rows = [
        [
            row["metric"],
            "model" if pd.isna(row["layer"]) else f"after layer {row['layer']}",
            *(number(row[column]) for column in ("value", "chance", "null_mean", "untrained")),
            *([] if since is None else [number(since.get(_place(row)), 0)]),
        ]
        for row in scores.to_dict("records")
    ]
    columns = ["score", "of", "value", "chance", "null", "untrained", *([] if since is None else ["half since step"])]
    return table(f"{title}: layers and model", columns, rows, right=2)


def _by_pair(title: str, scores: pd.DataFrame, since: _Since | None) -> Grid:
    """Of each score the pairs of the largest values, whatever their sign."""
    largest = scores.sort_values("value", key=abs, ascending=False, kind="stable").groupby("metric", sort=False)
    shown = largest.head(_PAIRS_SHOWN)
    in_order = {metric: place for place, metric in enumerate(dict.fromkeys(scores["metric"]))}
    rows = [
        [
            row["metric"],
            str(Head(int(row["source_layer"]), int(row["source_head"]))),
            str(Head(int(row["layer"]), int(row["head"]))),
            *(number(row[column]) for column in ("value", "chance", "null_mean", "untrained")),
            *([] if since is None else [number(since.get(_place(row)), 0)]),
        ]
        for row in shown.sort_values("metric", key=lambda names: names.map(in_order), kind="stable").to_dict("records")
    ]
    columns = ["score", "from", "to", "value", "chance", "null", "untrained"]
    columns += [] if since is None else ["half since step"]
    of = f" ({len(rows)} of {len(scores)}, the largest of each score)" if len(rows) < len(scores) else ""
    return table(f"{title}: head pairs{of}", columns, rows, right=3)


def _twins(seed: int, scores: pd.DataFrame) -> Grid:
    """The runs of one seed as columns: the heads of the copy circuit, then all heads by the ranking score."""
    score = ranking(set(scores["metric"])).name
    columns: list[list[str]] = []
    headers: list[str] = []
    for run, part in scores.groupby("run", sort=False):
        headers.append(f"{run} @{part['step'].iloc[0]}")
        circuit = copy_circuit(part)
        ranked = (
            part[part["metric"] == score]
            .sort_values("value", ascending=False)
            .head(_HEADS_SHOWN // 2)
            .to_dict("records")
        )
        heads = [f"{Head(row['layer'], row['head'])} {number(row['value'])}" for row in ranked]
        columns.append([names(circuit.lookup) or "none", names(circuit.previous_token) or "none", *heads])
    longest = max(len(column) for column in columns)
    labels = ["lookup heads", "previous-token heads", *(f"{score} #{i + 1}" for i in range(longest - 2))]
    cells = [column + [""] * (longest - len(column)) for column in columns]
    rows = [list(row) for row in zip(labels, *cells, strict=True)]
    return table(f"seed {seed}, side by side (run @step)", ["", *headers], rows, turn=True)
