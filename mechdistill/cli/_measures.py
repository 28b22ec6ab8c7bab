"""The commands that measure: a table on stdout, an interactive figure in the directory, or JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from mechdistill import analysis, plots
from mechdistill.circuits import Head, copy_circuit, names
from mechdistill.cli._arguments import parse_checkpoint
from mechdistill.cli._print import number, print_json, stderr, stdout, table
from mechdistill.runs import FIGURES, load, write_text

Measure = Callable[..., pd.DataFrame]


def show_induction_scores(directory: Path, checkpoint: str, as_json: bool, fresh: bool) -> None:
    """Scores, best head first, twins side by side, and heat maps."""
    scores = _measure(analysis.induction_scores, directory, checkpoint, as_json, fresh)
    if as_json:
        return
    last = _last_step(scores)
    for seed, of_seed in last.groupby("seed", sort=False):
        stdout().print(_twins(int(str(seed)), of_seed))
        for run, part in of_seed.groupby("run", sort=False):
            stdout().print(_score_table(str(run), part))
    write_figure(directory, "induction-scores", plots.induction_scores_figure(scores))


def show_row_curves(directory: Path, checkpoint: str, as_json: bool, fresh: bool) -> None:
    """KL by row entropy at the last checkpoint, copying by occurrence, and learning curves."""
    curves = _measure(analysis.row_curves, directory, checkpoint, as_json, fresh)
    if as_json:
        return
    stdout().print(_row_table(_last_step(curves)))
    write_figure(directory, "row-curves", plots.row_curves_figure(curves))


def show_ablation(directory: Path, checkpoint: str, as_json: bool, fresh: bool) -> None:
    """What each head and the circuit cost, with controls, and bars."""
    effects = _measure(analysis.ablate, directory, checkpoint, as_json, fresh)
    if as_json:
        return
    for run, part in _last_step(effects).groupby("run", sort=False):
        stdout().print(_ablation_table(str(run), part))
    write_figure(directory, "ablate", plots.ablation_figure(effects))


def _measure(measure: Measure, directory: Path, checkpoint: str, as_json: bool, fresh: bool) -> pd.DataFrame:
    target = load(directory)
    result = measure(target, parse_checkpoint(checkpoint), fresh=fresh)
    if as_json:
        print_json(result)
    return result


def write_figure(directory: Path, name: str, figure: Any) -> None:
    """Put a figure into the directory, and say where."""
    path = directory / FIGURES / f"{name}.html"
    write_text(path, plots.to_html(figure))
    stderr.print(f"figure: {path}   (opens offline; tables: {directory}/**/tables)")


def _last_step(data: pd.DataFrame) -> pd.DataFrame:
    return data[data["step"] == data.groupby("run")["step"].transform("max")]


def _score_table(run: str, scores: pd.DataFrame) -> Any:
    """Every score of every head, in order of the ranking score."""
    metrics = list(dict.fromkeys(scores["metric"]))
    wide = scores.pivot(index=["layer", "head"], columns="metric", values="value")
    rows = [
        [str(Head(row["layer"], row["head"])), *(number(row[metric]) for metric in metrics)]
        for row in wide.sort_values(_ranking(scores), ascending=False).reset_index().to_dict("records")
    ]
    for label, column in (("chance", "chance"), ("null, best head", "null_max")):
        reference = scores.groupby("metric", sort=False)[column].first()
        rows.append([label, *(number(reference[metric]) for metric in metrics)])
    best_untrained = scores.groupby("metric", sort=False)["untrained"].max()
    rows.append(["untrained, best head", *(number(best_untrained[metric]) for metric in metrics)])
    step = int(scores["step"].iloc[0])
    return table(f"\n{run} at step {step}: attention to the positions each score names", ["head", *metrics], rows)


def _ranking(scores: pd.DataFrame) -> str:
    """trigger-lookup, where there is something to look up."""
    return "trigger-lookup" if "trigger-lookup" in set(scores["metric"]) else "induction"


def _twins(seed: int, scores: pd.DataFrame) -> Any:
    """The runs of one seed as columns: the heads of the copy circuit, then all heads by the ranking score."""
    ranking = _ranking(scores)
    columns: list[list[str]] = []
    for _, part in scores.groupby("run", sort=False):
        circuit = copy_circuit(part)
        ranked = part[part["metric"] == ranking].sort_values("value", ascending=False).to_dict("records")
        heads = [f"{Head(row['layer'], row['head'])} {number(row['value'])}" for row in ranked]
        columns.append([names(circuit.lookup) or "none", names(circuit.previous_token) or "none", *heads])
    longest = max(len(column) for column in columns)
    labels = ["lookup heads", "previous-token heads", *(f"{ranking} #{i + 1}" for i in range(longest - 2))]
    cells = [column + [""] * (longest - len(column)) for column in columns]
    rows = [list(row) for row in zip(labels, *cells, strict=True)]
    return table(f"seed {seed}, side by side", ["", *(str(run) for run in dict.fromkeys(scores["run"]))], rows)


def _row_table(curves: pd.DataFrame) -> Any:
    rows: list[list[str]] = []
    for run, part in curves.groupby("run", sort=False):
        by_row = part[part["row"].notna()]
        wide = by_row.pivot(index=["bucket", "row"], columns="metric", values="value").reset_index()
        cells = [str(run)]
        for _, bucket in wide.groupby("bucket"):
            cells.append(number((bucket["kl"] * bucket["positions"]).sum() / bucket["positions"].sum(), 4))
        copying = part[part["occurrence"].notna()].set_index(["metric", "occurrence"])["value"]
        for metric, occurrence in (("copy-loss", 1), ("copy-accuracy", 2), ("copy-accuracy", 3)):
            cells.append(number(copying.get((metric, occurrence))))
        cells.append(number(copying.get(("no-matching-accuracy", 3))))
        rows.append(cells)
    buckets = curves[curves["row"].notna()].groupby("bucket")["row_entropy"].agg(["min", "max"])
    headers = [f"KL, rows H {b['min']:.2f}-{b['max']:.2f}" for b in buckets.to_dict("records")]
    columns = ["run", *headers, "copy loss @1", "copy accuracy @2", "@3+", "no matching @3+"]
    return table("KL to the oracle by row entropy, and copying by occurrence (nats)", columns, rows)


def _ablation_table(run: str, effects: pd.DataFrame) -> Any:
    """Mean effect of each head, each set and each kind of control, dearest head first."""
    pooled = effects[effects["bucket"].isna()]
    metrics = [m for m in ("copy-loss-delta", "bigram-kl-delta") if m in set(pooled["metric"])]
    cells = [(m, a) for m in metrics for a in ("mean", "zero")]
    single, sets = pooled[pooled["what"] == "head"], pooled[pooled["what"] != "head"]
    wide = single.pivot(index=["layer", "head"], columns=["metric", "ablation"], values="value")
    wide = wide.sort_values(cells[0], ascending=False)
    rows = [
        [str(Head(int(layer), int(head))), *(number(wide.loc[(layer, head), cell]) for cell in cells)]
        for layer, head in wide.index.to_list()
    ]
    for what, part in sets.groupby("what", sort=False):
        means = part.groupby(["metric", "ablation"])["value"].mean()
        half, is_control, kind = str(what).partition(": ")
        label = f"  {kind}" if is_control else f"{half} heads ({part['heads'].iloc[0]})"
        rows.append([label, *(number(means[cell]) for cell in cells)])
    step = int(effects["step"].iloc[0])
    return table(
        f"\n{run} at step {step}: what knocking out costs (controls indented, their mean)",
        ["heads", *(f"Δ {m.removesuffix('-delta')}, {a} abl." for m, a in cells)],
        rows,
    )
