"""The full QK and OV circuits of a head of a run over training: what it matches and what it moves, token by token."""

from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
import pandas as pd
from torch import Tensor

from mechdistill import arguments
from mechdistill.ambient import neutral
from mechdistill.analysis._apply import measured
from mechdistill.analysis._arms import arms
from mechdistill.circuits import Head, HeadView, copy_circuit, ov_matrix, parse_head, qk_matrix, require_fixed_matching
from mechdistill.circuits.scores import PREVIOUS_AFTER_TRIGGER, TRIGGER_LOOKUP, Score
from mechdistill.errors import MechdistillError
from mechdistill.runs import Run
from mechdistill.tables import INDUCTION_SCORES, TOKEN_MATRICES, with_arms

_CHECKPOINTS = 6


@neutral()
def token_matrices(
    run: Run, head: str | None = None, through: str | None = None, *, checkpoints: SupportsIndex = _CHECKPOINTS
) -> pd.DataFrame:
    """Which tokens a head matches and which logits it raises, at up to so many checkpoints from the first to the last.

    One row a pair of tokens: `QK` as it reads tokens, `QK` with keys read through an earlier head (`source_layer`,
    `source_head`), and `OV`, as `circuits.qk_matrix` and `circuits.ov_matrix` define them; triggers come first. Unless
    named (like 'L1H0'), the head is the lookup head of the run's copy circuit with the best score at the last
    checkpoint, and `through` its best previous-token head. Long: vocab² rows a matrix and checkpoint. Draw it with
    `mechdistill.plots.token_matrices_figure`. Raises `MechdistillError` for a head that is not there, where none is
    named and there is no copy circuit, where positions are rotary, and where there is no checkpoint.
    """
    arguments.instance(run, "run", Run, "must be a run, like md.load(path).run('spt/seed-0')")
    count = arguments.whole(checkpoints, "checkpoints", 1)
    for name, named in (("head", head), ("through", through)):
        if named is not None:
            arguments.instance(named, name, str, "must be a head, like 'L1H0'")
    require_fixed_matching(HeadView(run.model("last")))  # before a head is looked for; raises without checkpoints, too
    chosen, earlier = _heads(run, head, through)
    steps = [run.steps[i] for i in np.unique(np.linspace(len(run.steps) - 1, 0, count).round().astype(int))]
    world = run.world
    order = [*world.triggers, *(token for token in range(world.vocab) if token not in set(world.triggers))]
    symbols = np.array([world.symbols[token] for token in order], dtype=object)
    front = {"run": run.name, "arm": run.config.treatment, "seed": run.config.seed}
    parts: list[pd.DataFrame] = []
    for step in steps:
        view = HeadView(run.model(step))
        for name, source, matrix in _matrices(view, chosen, earlier):
            values = matrix[order][:, order].numpy()
            columns: dict[str, Any] = front | {"step": step, "tokens": run.tokens_at(step), "matrix": name}
            columns |= {"layer": chosen.layer, "head": chosen.head}
            columns |= dict(zip(("source_layer", "source_head"), source or (None, None), strict=True))
            columns |= {"row": symbols.repeat(len(order)), "column": np.tile(symbols, len(order))}
            columns |= {"trigger": (np.arange(len(order)) < len(world.triggers)).repeat(len(order))}
            columns["value"] = values.ravel()
            index = pd.RangeIndex(values.size)
            typed = {c.name: pd.Series(columns[c.name], index=index, dtype=c.dtype) for c in TOKEN_MATRICES.columns}
            parts.append(pd.DataFrame(typed))
    return with_arms(pd.concat(parts, ignore_index=True), arms(run))


def _matrices(view: HeadView, head: Head, through: Head | None) -> Iterator[tuple[str, Head | None, Tensor]]:
    """Name, the head through which keys are read, and the matrix."""
    yield "QK", None, qk_matrix(view, head)
    if through is not None:
        yield "QK", through, qk_matrix(view, head, through)
    yield "OV", None, ov_matrix(view, head)


def _heads(run: Run, head: str | None, through: str | None) -> tuple[Head, Head | None]:
    """The named ones, and for those that are not, the best of the copy circuit."""
    named = None if head is None else parse_head(head), None if through is None else parse_head(through)
    if named[0] is not None and (named[1] is not None or named[0].layer == 0):
        return named[0], named[1]
    scores = measured(INDUCTION_SCORES.name)(run)
    circuit = copy_circuit(scores)
    chosen = named[0] or _best(scores, TRIGGER_LOOKUP, circuit.lookup)
    if chosen is None:
        raise MechdistillError(f"{run.path}: no head looks up, so there is no copy circuit; name a head")
    before = tuple(other for other in circuit.previous_token if other.layer < chosen.layer)
    return chosen, named[1] or _best(scores, PREVIOUS_AFTER_TRIGGER, before)


def _best(scores: pd.DataFrame, score: Score, among: tuple[Head, ...]) -> Head | None:
    rows = scores[scores["metric"] == score.name]
    values = {Head(int(row["layer"]), int(row["head"])): float(row["value"]) for row in rows.to_dict("records")}
    return max(among, key=lambda head: values[head], default=None)
