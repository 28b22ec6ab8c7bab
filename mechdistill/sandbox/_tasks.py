"""In-context evaluation sequences: prompts whose last token asks for something that the prompt has shown.

A prompt is a haystack of ordinary tokens in which one pair (key, answer) stands; it ends with the key, and a model
that copies from context gives the answer. No other pair of the haystack starts with the key. Where triggers are fixed
a second pair is a decoy, another trigger with another target, since what follows the only trigger needs no matching.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.sandbox._rows import normalised
from mechdistill.sandbox._sampler import alias_table, draw
from mechdistill.sandbox._world import Sandbox

PromptKind = Literal["copy", "needle", "counterfactual"]


class Prompts(NamedTuple):
    """Prompts of one task; the model's prediction at position `end` is judged, and what comes later is never read."""

    tokens: Int[Tensor, "prompt pos"]
    answer: Int[Tensor, " prompt"]
    distance: Int[Tensor, " prompt"]  # positions between the key in the pair and the key at the end
    end: Int[Tensor, " prompt"]  # where the prompt ends; the pair stands `distance` before
    row_probability: Float[Tensor, " prompt"]  # pi[key, answer]: what a model that only knows bigrams gives

    @property
    def key(self) -> Int[Tensor, " prompt"]:
        """The token that is asked about."""
        return self.tokens.gather(1, self.end[:, None])[:, 0]


def prompts(
    sandbox: Sandbox, kind: PromptKind, count: int, seed: int, *, distances: Sequence[int] | None = None
) -> Prompts:
    """`count` prompts within seq_len tokens; a pure function of the sandbox, the kind, the seed and the distances.

    `copy`: the prompt ends `distance` positions after the pair, distances drawn evenly from `distances` (default:
    powers of two from 2), and the pair stands anywhere that leaves room: were all prompts of one length, near pairs
    would be late ones, and a model that only finds what stood early would seem to see far alone. `needle`: the pair
    stands at the very beginning, the prompt is as long as can be. `counterfactual`: as `copy`, but the answer is one
    of the quarter of possible targets that the key's row makes least likely, so context contradicts the row; were it
    the least likely alone, a table without context could know it.

    Keys are triggers (any token that can be one, where sequences draw their own); answers of `copy` and `needle` are
    drawn from the trigger's target law. Chance accuracy is 1/vocab; a bigram model's is about `row_probability`. Among
    several fixed triggers one of the others stands in the haystack with a target of its own, at any place: whoever
    knows what followed triggers but matches none is right every other time.
    Raises `MechdistillError` if the world has no triggers or a distance does not fit.
    """
    length = sandbox.seq_len
    keys = np.flatnonzero(sandbox.rate > 0)
    if not len(keys):
        raise MechdistillError("triggers.count=0: in-context tasks need a world with triggers; choose another")
    choices = list(distances) if distances is not None else [2**i for i in range(1, 16) if 2**i < length]
    if kind == "needle":
        choices = [length - 1]
    if not choices or min(choices) < 2 or max(choices) > length - 1:
        raise MechdistillError(f"distances={choices}: must be between 2 and seq_len - 1 = {length - 1}")
    salt = {"copy": 0, "needle": 1, "counterfactual": 2}[kind]
    rng = np.random.default_rng(np.random.SeedSequence([sandbox.config.seed, 3, salt, seed]))
    slot = rng.integers(len(keys), size=count)
    key, prior = keys[slot], sandbox.target_prior
    distance = np.asarray(choices)[np.arange(count) % len(choices)]
    first = np.where(distance < 4, 2, 0)  # there must be room for a decoy
    at = first + (rng.random(count) * (length - distance - first)).astype(np.int64)
    end = at + distance

    tokens = _haystack(sandbox, key, length, rng)
    answer = draw(alias_table(prior), slot, rng.random(count))
    if kind == "counterfactual":
        answer = _unlikely(np.where(prior > 0, sandbox.pi[keys], np.inf), slot, rng)
    everyone = np.arange(count)
    tokens[everyone, at] = tokens[everyone, end] = key
    tokens[everyone, at + 1] = answer
    if len(sandbox.triggers) > 1:
        other = (slot + rng.integers(1, len(keys), size=count)) % len(keys)
        place = _beside(at, end, rng)
        tokens[everyone, place] = keys[other]
        tokens[everyone, place + 1] = _other_target(prior[other], answer, rng)
    return Prompts(*(torch.from_numpy(x) for x in (tokens, answer, distance, end, sandbox.pi[key, answer])))


def _beside(at: np.ndarray, end: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # [prompt]
    """Where a second pair begins: evenly among the places that touch neither the pair at `at` nor the end."""
    first, last = np.maximum(at - 1, 0), np.minimum(at + 1, end - 2)
    taken = last - first + 1
    place = (rng.random(len(at)) * (end - 1 - taken)).astype(np.int64)
    return np.where(place >= first, place + taken, place)


def _unlikely(rows: np.ndarray, slot: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # [prompt]
    """For each prompt one of the least quarter of its row's finite entries, rows [slot, vocab]."""
    upward = rows.argsort(axis=1, kind="stable")
    quarter = np.maximum(np.isfinite(rows).sum(axis=1) // 4, 1)
    return upward[slot, (rng.random(len(slot)) * quarter[slot]).astype(np.int64)]


def _other_target(prior: np.ndarray, answer: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # [prompt]
    """A draw from each prior [prompt, vocab] that is not the answer, unless the prior knows nothing else."""
    law = prior.copy()
    law[np.arange(len(answer)), answer] = 0.0
    law = np.where(law.sum(axis=1, keepdims=True) > 0, law, prior)
    upto = law.cumsum(axis=1)
    return (upto > rng.random(len(answer))[:, None] * upto[:, -1:]).argmax(axis=1)


def _haystack(sandbox: Sandbox, key: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:  # [prompt, pos]
    """Chains over tokens that are no fixed triggers and not the prompt's key, by the rows of pi so restricted."""
    tokens = np.empty((len(key), length), dtype=np.int64)
    for token in np.unique(key):
        barred = [token, *sandbox.triggers]
        rows, start = sandbox.pi.copy(), sandbox.start_law[None].copy()
        rows[:, barred] = start[:, barred] = 0.0
        table = alias_table(normalised(rows))
        mine = np.flatnonzero(key == token)
        tokens[mine, 0] = draw(alias_table(normalised(start)), np.zeros_like(mine), rng.random(len(mine)))
        for t in range(length - 1):
            tokens[mine, t + 1] = draw(table, tokens[mine, t], rng.random(len(mine)))
    return tokens
