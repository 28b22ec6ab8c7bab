"""The live head explorer, as parts for a page: checkpoints that run there, with their scores, worlds and prompts.

What runs them is `page/model.js` and its neighbours. `_explore` makes a page of its own of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mechdistill.ambient import neutral
from mechdistill.circuits import ablation, copy_circuit, ranking
from mechdistill.circuits.ablation import targets
from mechdistill.circuits.scores import PREVIOUS_AFTER_TRIGGER
from mechdistill.config import CorpusRows
from mechdistill.plots import arm_colours
from mechdistill.positions import EvaluationSet
from mechdistill.report._choice import Checkpoint, Choice, opening
from mechdistill.report._page import asset
from mechdistill.report._weights import SEQUENCES, encoded, shape
from mechdistill.runs import Run
from mechdistill.sandbox import Sandbox
from mechdistill.tables import arms_of, shown
from mechdistill.tables.metrics import COPY_LOSS_DELTA

PROMPTS = 8
"""Held-out sequences that can be chosen in the page."""
LONGEST = 256
"""Tokens of a prompt, at most: a pattern of more cannot be read, and takes long."""
_LARGEST_LAW = 1024  # tokens; of a larger world the law would be larger than the models

STYLES = ("explorer.css",)
SCRIPTS = ("model.js", "oracle.js", "view.js", "link.js", "heatmap.js", "pane.js", "controls.js", "explorer.js")


@dataclass(frozen=True)
class Explorer:
    """The parts of a page that make the explorer; `json` stands under the key `explorer` of the page's payload."""

    markup: str
    json: dict[str, Any]
    blobs: dict[str, bytes]
    said: str
    """Which checkpoints are inside, in one sentence."""

    @property
    def styles(self) -> tuple[str, ...]:
        """Texts of its style sheets."""
        return tuple(map(asset, STYLES))

    @property
    def scripts(self) -> tuple[str, ...]:
        """Texts of its scripts, in order; the last one fills `markup` once the payload is there."""
        return tuple(map(asset, SCRIPTS))


@neutral()
def explorer(
    runs: Sequence[Run], *, scores: pd.DataFrame | None, effects: pd.DataFrame | None, choice: Choice
) -> Explorer:
    """The explorer of the chosen checkpoints of some runs, students first.

    `scores` is an `induction-scores` table and `effects` an `ablate` table of any of their checkpoints; heads without
    a row show a dash.
    """
    found = _Parts()
    for checkpoint in sorted(choice.checkpoints, key=lambda c: (_place(runs, c.run), c.step)):
        found.add(checkpoint, _scored(scores, checkpoint), _cost(effects, checkpoint))
    inside = [run for run in runs if str(run.path) in found.runs]
    pair = opening(inside)
    arms = list(dict.fromkeys(run.config.treatment for run in runs))
    known = arms if scores is None or scores.empty else list(dict.fromkeys([*arms_of(scores), *arms]))
    rank = ranking(set() if scores is None else set(scores["metric"]))
    json = {
        "runs": list(found.runs.values()),
        "worlds": list(found.worlds.values()),
        "shapes": found.shapes,
        "colours": {arm: look.colour for arm, look in arm_colours(known).items()},
        "start": [inside.index(run) for run in pair if run is not None],
        "ranking": {"name": rank.name, "label": rank.label},
        "earlier": {"name": PREVIOUS_AFTER_TRIGGER.name, "label": PREVIOUS_AFTER_TRIGGER.label},
        "modes": [{"name": kind.name, "label": kind.label} for kind in (ablation.MEAN, ablation.ZERO)],
        "longest": LONGEST,
        "said": choice.said,
    }
    return Explorer('<section id="explorer" aria-label="Live head explorer"></section>', json, found.blobs, choice.said)


def _place(runs: Sequence[Run], run: Run) -> int:
    return next(i for i, other in enumerate(runs) if other is run)


class _Parts:
    """What a page's payload is collected in: each world and each shape of models once."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.worlds: dict[str, dict[str, Any]] = {}
        self.shapes: list[dict[str, Any]] = []
        self._data: dict[str, EvaluationSet] = {}

    def add(self, checkpoint: Checkpoint, scores: dict[str, Any], effects: dict[str, Any]) -> None:
        run, step = checkpoint
        model = run.model(step)
        world = run.config.sandbox.model_dump_json()
        if world not in self.worlds:
            self.worlds[world] = self._world(run.sandbox, len(self.worlds))
            self._data[world] = EvaluationSet(run.world, run.world.evaluation(SEQUENCES))
        like = shape(model, run.config.model)
        if like not in self.shapes:
            self.shapes.append(like)
        entry = self.runs.setdefault(
            str(run.path),
            {
                "name": run.name,
                "arm": run.config.treatment,
                "seed": run.config.seed,
                "world": list(self.worlds).index(world),
                "shape": self.shapes.index(like),
                "checkpoints": [],
            },
        )
        blob = f"weights {run.name} {step}"
        self.blobs[blob] = encoded(model, self._data[world])
        about = {"step": step, "tokens": run.tokens_at(step), "weights": blob, "scores": scores, "effects": effects}
        entry["checkpoints"].append(about)

    def _world(self, world: Sandbox, number: int) -> dict[str, Any]:
        has_law = world.vocab <= _LARGEST_LAW
        possible = np.flatnonzero(world.rate > 0)
        if has_law:
            self.blobs[f"pi {number}"] = world.pi.astype("<f4").tobytes()
            self.blobs[f"prior {number}"] = world.target_prior.astype("<f4").tobytes()
        batch, longest = world.evaluation(PROMPTS), min(LONGEST, world.seq_len)
        prompts = [
            # one token more than the models read: the last one's successor
            {"tokens": tokens[: longest + 1], "hidden": np.flatnonzero(hidden).tolist()}
            for tokens, hidden in zip(batch.sequences.tolist(), batch.triggers.numpy(), strict=True)
        ]
        return {
            "vocab": world.vocab,
            "n_ctx": longest,
            "symbols": [shown(symbol) for symbol in world.symbols],
            "letters": list(world.symbols) if isinstance(world.config.rows, CorpusRows) else None,
            "law": has_law,
            "noise": world.noise,
            "slots": world.slot_of.tolist(),
            "rate": world.rate[possible].tolist(),
            "prompts": prompts,
        }


def _at(table: pd.DataFrame | None, checkpoint: Checkpoint) -> pd.DataFrame | None:
    if table is None or table.empty:
        return None
    return table[(table["run"] == checkpoint.run.name) & (table["step"] == checkpoint.step)]


def _scored(scores: pd.DataFrame | None, checkpoint: Checkpoint) -> dict[str, Any]:
    """The two scores that the page shows, by name and head, and the heads that make up the copy circuit."""
    table = _at(scores, checkpoint)
    if table is None or table.empty:
        return {}
    names = {ranking(set(table["metric"])).name, PREVIOUS_AFTER_TRIGGER.name}
    circuit = copy_circuit(table)
    return {
        "values": {name: _by_head(table[table["metric"] == name]) for name in sorted(names)},
        "lookup_heads": [str(head) for head in circuit.lookup],
        "earlier_heads": [str(head) for head in circuit.previous_token],
    }


def _cost(effects: pd.DataFrame | None, checkpoint: Checkpoint) -> dict[str, Any]:
    """What copying loses without each head, nats, by ablation."""
    table = _at(effects, checkpoint)
    if table is None:
        return {}
    rows = table[(table["what"] == targets.HEAD.name) & (table["metric"] == COPY_LOSS_DELTA.name)]
    rows = rows[rows["mode"] == ablation.FULL.name]
    return {str(name): _by_head(part) for name, part in rows.groupby("ablation", observed=True)}


def _by_head(table: pd.DataFrame) -> dict[str, float]:
    table = table[table["value"].notna()]
    heads = zip(table["layer"], table["head"], table["value"], strict=True)
    return {f"L{layer}H{head}": round(float(value), 5) for layer, head, value in heads}
