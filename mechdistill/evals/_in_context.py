"""Prompts whose last token asks for what the prompt has shown: does a model use it, and from how far away?"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_args

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.evals._rows import finite
from mechdistill.laws import cross_entropy
from mechdistill.model import Model
from mechdistill.positions import CHUNK_BYTES, EvaluationSet, predict, worth_of_context
from mechdistill.sandbox import PromptKind, Prompts, Sandbox, prompts
from mechdistill.subject import PROBE_SEED, Subject
from mechdistill.tables import IN_CONTEXT, frame, metrics
from mechdistill.world import Batch

_METRICS = (metrics.IN_CONTEXT_ACCURACY, metrics.IN_CONTEXT_LOSS, metrics.ROW_WINS)
_PROMPTS = 128  # of each distance; fewer where sequences are long, so that all take about as much as the held-out set
_FEWEST = 16
_POSITIONS = 2**16


class _Answers(NamedTuple):
    """What laws say at the end of prompts."""

    correct: Float[Tensor, " prompt"]  # 1 where the likeliest token is the answer; ties share it
    loss: Float[Tensor, " prompt"]
    row_wins: Float[Tensor, " prompt"]


@torch.no_grad()
def in_context(model: Model, data: EvaluationSet) -> pd.DataFrame:
    """The `in-context` table of a model in the sandbox of `data`.

    Of each task and distance, and of each quarter of the sequence in which the pair may stand (see `sandbox.prompts`):
    `in-context-accuracy`, how often the likeliest token is the answer, in [0, 1], and `in-context-loss`, -log of the
    answer's probability, nats. In `counterfactual`, where the answer is among what the key's row of the transition
    matrix makes least likely, also `row-wins`: how often that row's likeliest token is given instead. Where triggers
    are fixed and the rule has no noise, nobody ever sees their rows, and it says little.

    Chance is 1/vocab, and ln(vocab) of the loss. Beside each value stand the oracle's (`ceiling`: where sequences draw
    their triggers a prompt can be read either way, and the oracle follows its posterior), that of the table without
    context that has the least loss (`no_context`), and of accuracy what a guesser reaches who knows the triggers and
    matches none (`no_matching`, see `KnownWorld.no_matching_hits`).

    `icl-against-oracle`, on the sequences of `data`, is `positions.worth_of_context`: 1 like the oracle, 0 where
    context is not used. The table without context may come to more than 0 where other tokens come again than come once.
    Raises `MechdistillError` for a world that is no sandbox. Sources: Olsson et al. 2022 (copying); Bietti et al. 2023.
    """
    world = data.world
    if not isinstance(world, Sandbox):
        raise MechdistillError("in-context: its prompts are made of a transition matrix; measure a run in a sandbox")
    device = next(model.parameters()).device

    def law(tokens: Int[Tensor, "prompt pos"]) -> Float[Tensor, "prompt pos vocab"]:
        return model(tokens.to(device)).float().log_softmax(dim=-1).cpu()

    rows: list[dict[str, Any]] = []
    for kind in get_args(PromptKind):
        rows += _of_task(world, kind, law)
    table = cross_entropy(_best_table(world)[data.tokens], data.next_tokens)
    worth, blind = (
        worth_of_context(loss, data.oracle_loss, data.occurrence) for loss in (predict(model, data).loss, table)
    )
    rows.append(metrics.ICL_AGAINST_ORACLE.row(worth, ceiling=1.0, no_context=blind))
    return frame(IN_CONTEXT, finite(rows))


def measure_in_context(subject: Subject) -> pd.DataFrame:
    """The `in_context` of a subject's model on its held-out sequences."""
    return in_context(subject.model, subject.data)


def _of_task(world: Sandbox, kind: PromptKind, law: Callable[[Tensor], Tensor]) -> Iterator[dict[str, Any]]:
    distances = 1 if kind == "needle" else (world.seq_len - 1).bit_length() - 1
    each = min(_PROMPTS, max(_FEWEST, _POSITIONS // (world.seq_len * distances)))
    task = prompts(world, kind, each * distances, PROBE_SEED)
    ours = _answers(_at_end(law, task, world), task, world)
    oracle = _answers(_at_end(world.law, task, world), task, world)
    no_context = _answers(_best_table(world)[task.key], task, world)
    no_matching = _no_matching(world, task)
    for about, here in _groups(task, world.seq_len):
        n = int(here.sum())
        for metric, values, ceiling, blind in zip(_METRICS, ours, oracle, no_context, strict=True):
            if metric is metrics.ROW_WINS and kind != "counterfactual":
                continue
            beside = {"ceiling": float(ceiling[here].mean()), "no_context": float(blind[here].mean())}
            if metric is metrics.IN_CONTEXT_ACCURACY and no_matching is not None:
                beside["no_matching"] = float(no_matching[here].mean())
            error = float(values[here].std()) / n**0.5 if n > 1 else None
            yield metric.row(float(values[here].mean()), task=kind, prompts=n, error=error, **about, **beside)


def _best_table(world: Sandbox) -> Float[Tensor, "vocab vocab"]:
    """Log-laws of the table without context that has the least loss."""
    return torch.tensor(world.best_bigram).log().float()


def _groups(task: Prompts, length: int) -> Iterator[tuple[dict[str, int], Bool[Tensor, " prompt"]]]:
    """Prompts by distance, and, where that is not one and the same, by the quarter in which the pair stands."""
    distances = task.distance.unique().tolist()
    for distance in distances:
        yield {"distance": distance}, task.distance == distance
    quarter = (task.end - task.distance) * 4 // length
    for number in quarter.unique().tolist() if len(distances) > 1 else ():
        yield {"quarter": number}, quarter == number


def _at_end(
    law: Callable[[Int[Tensor, "prompt pos"]], Float[Tensor, "prompt pos vocab"]], task: Prompts, world: Sandbox
) -> Float[Tensor, "prompt vocab"]:
    """The law at the end of each prompt, so many at a time that their laws at all positions fit."""
    fit = max(1, CHUNK_BYTES // (4 * world.seq_len * world.vocab))
    parts = zip(task.tokens.split(fit), task.end.split(fit), strict=True)
    return torch.cat([law(tokens)[torch.arange(len(end)), end] for tokens, end in parts])


def _answers(log_probs: Float[Tensor, "prompt vocab"], task: Prompts, world: Sandbox) -> _Answers:
    likeliest = (log_probs == log_probs.amax(dim=-1, keepdim=True)).float()
    likeliest /= likeliest.sum(dim=-1, keepdim=True)
    instead = torch.tensor(world.pi).argmax(dim=-1)[task.key]
    return _Answers(_of(likeliest, task.answer), -_of(log_probs, task.answer), _of(likeliest, instead))


def _of(values: Float[Tensor, "prompt vocab"], token: Int[Tensor, " prompt"]) -> Float[Tensor, " prompt"]:
    return values.gather(1, token[:, None])[:, 0]


def _no_matching(world: Sandbox, task: Prompts) -> Float[Tensor, " prompt"] | None:
    """Its accuracy at the end of prompts; None where triggers differ by sequence, so that knowing them says it all."""
    if not world.shows_triggers:
        return None
    always = torch.tensor(world.rate == 1).expand(len(task.tokens), world.vocab)
    asked = torch.cat((task.tokens, task.answer[:, None]), dim=1)
    asked[torch.arange(len(asked)), task.end + 1] = task.answer
    return _of(world.no_matching_hits(Batch(asked, always)), task.end)
