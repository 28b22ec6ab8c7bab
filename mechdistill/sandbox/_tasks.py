"""In-context evaluation sequences: prompts whose last token asks for something that the prompt has shown.

A prompt is a haystack of ordinary tokens in which one pair (key, answer) stands; it ends with the key, and a model
that copies from context gives the answer. No other pair of the haystack starts with the key.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.sandbox._rows import normalised
from mechdistill.sandbox._sampler import alias_table, draw
from mechdistill.sandbox._world import Sandbox

Kind = Literal["copy", "needle", "counterfactual"]


class Prompts(NamedTuple):
    """Prompts of one task, all of one length; the model's prediction at the last position is judged."""

    tokens: Int[Tensor, "prompt pos"]
    answer: Int[Tensor, " prompt"]
    distance: Int[Tensor, " prompt"]  # positions between the key in the pair and the key at the end
    row_probability: Float[Tensor, " prompt"]  # pi[key, answer]: what a model that only knows bigrams gives


def prompts(sandbox: Sandbox, kind: Kind, count: int, seed: int, *, distances: Sequence[int] | None = None) -> Prompts:
    """`count` prompts of seq_len tokens; a pure function of the sandbox, the kind, the seed and the distances.

    `copy`: the pair stands `distance` positions before the end, distances drawn evenly from `distances` (default:
    powers of two from 2). `needle`: the pair stands at the very beginning. `counterfactual`: as `copy`, but the
    answer is the least likely successor of the key in the transition matrix, so context contradicts the row.

    Keys are triggers (any token that can be one, where sequences draw their own); answers of `copy` and `needle` are
    drawn from the trigger's target law. Chance accuracy is 1/vocab; a bigram model's is about `row_probability`.
    Raises ValueError if the world has no triggers or a distance does not fit.
    """
    length = sandbox.seq_len
    keys = np.flatnonzero(sandbox.rate > 0)
    if not len(keys):
        raise ValueError("in-context tasks need a world with triggers")
    choices = list(distances) if distances is not None else [2**i for i in range(1, 16) if 2**i < length]
    if kind == "needle":
        choices = [length - 1]
    if not choices or min(choices) < 2 or max(choices) > length - 1:
        raise ValueError(f"distances={choices}: must be between 2 and seq_len - 1 = {length - 1}")
    salt = {"copy": 0, "needle": 1, "counterfactual": 2}[kind]
    rng = np.random.default_rng(np.random.SeedSequence([sandbox.config.seed, 3, salt, seed]))
    key = keys[rng.integers(len(keys), size=count)]
    distance = np.asarray(choices)[np.arange(count) % len(choices)]

    tokens = _haystack(sandbox, key, length, rng)
    prior = alias_table(sandbox.target_prior)
    answer = draw(prior, np.searchsorted(keys, key), rng.random(count))
    if kind == "counterfactual":
        allowed = np.where(sandbox.target_prior[np.searchsorted(keys, key)] > 0, sandbox.pi[key], np.inf)
        answer = allowed.argmin(axis=1)
    at = length - 1 - distance
    everyone = np.arange(count)
    tokens[everyone, at] = key
    tokens[everyone, at + 1] = answer
    tokens[:, -1] = key
    return Prompts(*(torch.from_numpy(x) for x in (tokens, answer, distance, sandbox.pi[key, answer])))


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
