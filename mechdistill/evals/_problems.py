"""Problems with many possible solutions of which one, hidden, is right: what pass@k is measured on.

A problem is a prompt, which is a stretch of a held-out sequence, and a short continuation. At each place of it either
the environment writes a token or it is the model's turn. The solutions are listed with the chance of each to be the
hidden one, by the world's own law; a sample is right if all that the model says is as in the hidden solution.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from mechdistill.world import N_BUCKETS, KnownWorld

Task = Literal["hidden-target", "chains", "multi-hop"]
HIDDEN_TARGET: Task = "hidden-target"
CHAINS: Task = "chains"

MODELS_TURN = -1
"""Stands in `forced` where the model speaks."""

_POOL = 512  # held-out sequences that prompts are taken from
_LONGEST = 64  # tokens of a prompt
_ROOM = 5  # tokens that follow a prompt and are read: the longest continuation but for its last
_HOPS = 3
_MOST_ANSWERS = 32  # at a decision
_FEWEST, _MOST_PROBLEMS = 16, 256
_MOST_HOPPED = 64
_MOST_LISTED = 2**16  # solutions of all problems of a task
_MOST_READ = 2**14  # of those, where the last decision has to be read again before the last answer


class Problems(NamedTuple):
    """Problems of one task, all of one length."""

    task: Task
    prompts: Int[Tensor, "problem pos"]
    forced: Int[Tensor, "problem place"]
    """What the environment writes there; `MODELS_TURN` where the model speaks, at the same places in every problem."""
    paths: Int[Tensor, "path place"]
    """Solutions: the continuation as it is when the model says what is right. In order of problems, none twice."""
    problem: Int[Tensor, " path"]
    weight: Float[Tensor, " path"]
    """How likely a solution is the hidden one; sums to 1 in each problem."""
    mass: float
    """What the hidden one is drawn from, as a share of the world's law at decisions; the rest is no solution."""
    lists_everything: bool = False
    """Whether all that a model can say is listed, what is never right with weight 0."""

    def by_problem(self, values: Float[Tensor, " path"]) -> Float[Tensor, "problem solution"]:
        """Values of solutions, a row a problem; 0 behind the last where a problem has fewer than another."""
        each = torch.bincount(self.problem, minlength=len(self.prompts))
        place = torch.arange(len(values)) - (each.cumsum(0) - each)[self.problem]
        return values.new_zeros(len(each), int(each.max())).index_put((self.problem, place), values)


def hidden_target(world: KnownWorld) -> Problems | None:
    """One token after a high-entropy row: the hidden target is y ~ π(row). Every token is listed as a solution.

    Prompts end in an ordinary token whose row is of the upper half by entropy.
    """
    rows, k = _rows(world), world.vocab
    found = islice(_stretches(world, rows), max(_FEWEST, min(_MOST_PROBLEMS, _MOST_LISTED // k)))
    everything = np.arange(k)[:, None]
    made = [(stretch, _Continuation([MODELS_TURN], everything, rows.pi[stretch.tokens[-1]], 1.0)) for stretch in found]
    problems = _joined(HIDDEN_TARGET, made)
    return None if problems is None else problems._replace(lists_everything=True)


def chains(world: KnownWorld, seed: int = 0) -> Problems | None:
    """Two decisions at high-entropy rows, each followed by a copy: exploration and copying in one number.

    The prompt ends in a high-entropy token h. The model decides y ~ π(h); the environment writes a trigger that the
    prompt has shown, and the model has to give its target c, whose row is of high entropy too; there it decides
    z ~ π(c); the environment writes another trigger that was shown, and the model gives its target. The hidden solution
    is one pair (y, z) drawn from the world's law. In a world without triggers (preset `scarce`) there is nothing to
    copy, and a chain is its decisions alone: y ~ π(h), then z ~ π(y).

    What is drawn is given that it is one of the 32 likeliest there, that it is no trigger where a trigger has to
    follow, and, in a world without triggers, that y leads to a high-entropy row; `mass` says how much of the law that
    is.
    Targets are those that followed the trigger most often in the prompt, which without noise are its targets.
    """
    rows, rng = _rows(world), _generator(world, 1, seed)
    copies = "triggers" in world.provides
    found: list[tuple[_Stretch, _Continuation]] = []
    listed = 0
    for stretch in _stretches(world, rows):
        made = _decisions_and_copies(rows, stretch, _lookups(stretch, rng)) if copies else _decisions(rows, stretch)
        if made is None:
            continue
        listed += len(made.paths)
        if len(found) >= _FEWEST and (
            listed > (_MOST_READ if copies else _MOST_LISTED) or len(found) == _MOST_PROBLEMS
        ):
            break
        found.append((stretch, made))
    return _joined(CHAINS, found)


def multi_hop(world: KnownWorld, seed: int = 0) -> Problems | None:
    """Three lookups one after another, all of which must be right: copying without exploration, the control.

    Three times the environment writes a trigger that the prompt has shown, another one as far as it shows several, and
    the model gives its target. There is one solution, so that the best possible pass@k is 1 at every k. None where the
    world has no triggers.
    """
    if "triggers" not in world.provides:
        return None
    rng = _generator(world, 2, seed)
    found: list[tuple[_Stretch, _Continuation]] = []
    for stretch in _stretches(world, _rows(world)):
        shown = _lookups(stretch, rng)
        if shown and len(found) < _MOST_HOPPED:
            hops = [shown[i % len(shown)] for i in range(_HOPS)]
            path = [token for hop in hops for token in hop]
            forced = [token for trigger, _ in hops for token in (trigger, MODELS_TURN)]
            found.append((stretch, _Continuation(forced, np.array([path]), np.ones(1), 1.0)))
    return _joined("multi-hop", found)


class _Rows(NamedTuple):
    pi: NDArray[np.float64]  # [vocab, vocab]
    high: NDArray[np.bool_]  # [vocab]: of the upper half of ordinary rows by entropy


class _Stretch(NamedTuple):
    """Part of a held-out sequence that ends in a high-entropy ordinary token."""

    tokens: NDArray[np.int64]  # [pos]
    is_trigger: NDArray[np.bool_]  # [vocab], in this sequence


class _Continuation(NamedTuple):
    forced: list[int]  # [place]
    paths: NDArray[np.int64]  # [path, place]
    weight: NDArray[np.float64]  # [path]
    mass: float


class _Lookup(NamedTuple):
    trigger: int
    target: int


def _generator(world: KnownWorld, salt: int, seed: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([world.seed, 6, salt, seed]))


def _rows(world: KnownWorld) -> _Rows:
    return _Rows(world.pi, world.bucket >= N_BUCKETS // 2)


def _stretches(world: KnownWorld, rows: _Rows) -> Iterator[_Stretch]:
    """Of each held-out sequence, in order, the last stretch that ends in a high-entropy token that is no trigger there.

    All of one length, half a sequence if that leaves room for what follows; sequences that have none are left out.
    """
    length = max(1, min(_LONGEST, world.seq_len // 2, world.seq_len - _ROOM))
    data = world.evaluation(_POOL)
    sequences, triggers = data.sequences.numpy(), data.triggers.numpy()
    ends = rows.high[sequences] & ~np.take_along_axis(triggers, sequences, axis=1)
    ends[:, : length - 1] = False
    for tokens, is_trigger, end in zip(sequences, triggers, ends, strict=True):
        if end.any():
            stop = int(np.flatnonzero(end)[-1]) + 1
            yield _Stretch(tokens[stop - length : stop], is_trigger)


def _lookups(stretch: _Stretch, rng: np.random.Generator) -> list[_Lookup]:
    """Triggers that were shown, with what followed each most often, in random order; no target is a trigger."""
    followed: dict[int, Counter[int]] = {}
    for token, following in zip(stretch.tokens[:-1].tolist(), stretch.tokens[1:].tolist(), strict=True):
        if stretch.is_trigger[token]:
            followed.setdefault(token, Counter())[following] += 1
    shown = [_Lookup(trigger, counts.most_common(1)[0][0]) for trigger, counts in sorted(followed.items())]
    shown = [lookup for lookup in shown if not stretch.is_trigger[lookup.target]]
    return [shown[i] for i in rng.permutation(len(shown))]


class _Decision(NamedTuple):
    answers: NDArray[np.int64]
    weight: NDArray[np.float64]  # sums to 1
    mass: float  # of the row


def _decision(row: NDArray[np.float64], allowed: NDArray[np.bool_]) -> _Decision | None:
    """The likeliest allowed tokens of a row; None where it leads to none."""
    law = np.where(allowed, row, 0.0)
    answers = np.argsort(-law, kind="stable")[:_MOST_ANSWERS]
    answers = np.sort(answers[law[answers] > 0])
    mass = float(law[answers].sum())
    return _Decision(answers, law[answers] / mass, mass) if mass > 0 else None


def _decisions_and_copies(rows: _Rows, stretch: _Stretch, shown: list[_Lookup]) -> _Continuation | None:
    first = next((lookup for lookup in shown if rows.high[lookup.target]), None)
    if first is None:
        return None
    second = next((lookup for lookup in shown if lookup is not first), first)
    here = _decision(rows.pi[stretch.tokens[-1]], ~stretch.is_trigger)
    there = _decision(rows.pi[first.target], ~stretch.is_trigger)
    if here is None or there is None:
        return None
    paths = [
        [y, first.trigger, first.target, z, second.trigger, second.target]
        for y in here.answers.tolist()
        for z in there.answers.tolist()
    ]
    forced = [MODELS_TURN, first.trigger, MODELS_TURN, MODELS_TURN, second.trigger, MODELS_TURN]
    weight = np.outer(here.weight, there.weight).ravel()
    return _Continuation(forced, np.array(paths), weight, here.mass * there.mass)


def _decisions(rows: _Rows, stretch: _Stretch) -> _Continuation | None:
    here = _decision(rows.pi[stretch.tokens[-1]], rows.high)
    if here is None:
        return None
    paths: list[list[int]] = []
    weight: list[NDArray[np.float64]] = []
    mass = 0.0
    for y, share in zip(here.answers.tolist(), here.weight.tolist(), strict=True):
        there = _decision(rows.pi[y], np.ones_like(rows.high))
        assert there is not None, "a row leads somewhere"
        paths += [[y, z] for z in there.answers.tolist()]
        weight.append(share * there.weight)
        mass += here.mass * share * there.mass
    return _Continuation([MODELS_TURN] * 2, np.array(paths), np.concatenate(weight), mass)


def _joined(task: Task, found: list[tuple[_Stretch, _Continuation]]) -> Problems | None:
    """Problems that differ in prompt, forced tokens and solutions; None where there is none."""
    if not found:
        return None
    stretches, made = zip(*found, strict=True)
    sizes = torch.tensor([len(one.paths) for one in made])
    return Problems(
        task,
        torch.from_numpy(np.stack([stretch.tokens for stretch in stretches])),
        torch.tensor([one.forced for one in made]),
        torch.from_numpy(np.concatenate([one.paths for one in made])),
        torch.arange(len(made)).repeat_interleave(sizes),
        torch.from_numpy(np.concatenate([one.weight for one in made])),
        float(np.mean([one.mass for one in made])),
    )
