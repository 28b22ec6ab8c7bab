"""How likely a model is to say what is right: every solution of a problem followed to its end, or samples drawn.

Both read a prompt once: what follows is read token by token, from a copy of the cache for every way in which the
continuation can go on.
"""

from collections import Counter
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.evals._estimate import estimated_pass_at_k
from mechdistill.evals._problems import MODELS_TURN, Problems
from mechdistill.model import KVCache, Model

_AT_ONCE = 2**27  # bytes of the cache, or of the laws, of what is read together


@torch.no_grad()
def path_chances(model: Model, problems: Problems, temperatures: list[float]) -> Float[Tensor, "path temperature"]:
    """The chance that a sample of the model is the solution, exactly: the product of its chances at every turn.

    q is softmax(logits / temperature), in float64. The chances of a problem's solutions sum to at most 1.
    """
    heat = torch.tensor(temperatures, dtype=torch.float64)
    log_p = torch.zeros(len(problems.paths), len(heat), dtype=torch.float64)
    begun = torch.cat([problems.problem[:, None], problems.paths[:, :-1]], dim=1)
    each = torch.bincount(torch.unique(begun, dim=0)[:, 0], minlength=len(problems.prompts))
    places = problems.paths.shape[1]
    for part in _parts(each, model, problems):
        mine = (problems.problem >= part.start) & (problems.problem < part.stop)
        problem, paths = problems.problem[mine] - part.start, problems.paths[mine]
        reader = _Reader(model, problems.prompts[part.start : part.stop], places)
        node = problem  # of each path: which of the continuations that were read so far it goes on from
        total = torch.zeros(len(paths), len(heat), dtype=torch.float64)
        for place in range(places):
            if problems.forced[0, place] == MODELS_TURN:
                law = (reader.logits[:, None] / heat[:, None]).log_softmax(dim=-1)  # [node, temperature, vocab]
                total += law[node, :, paths[:, place]]
            if place + 1 < places:
                parent, token, node = _distinct(node, paths[:, place])
                reader.read(parent, token)
        log_p[mine] = total
    return log_p.exp()


@torch.no_grad()
def drawn(model: Model, problems: Problems, n: int, generator: torch.Generator) -> Int[Tensor, "problem sample place"]:
    """`n` continuations of every problem, token by token as `generate` draws them, at temperature 1."""
    count, places = problems.forced.shape
    samples = torch.empty(count, n, places, dtype=torch.long)
    for part in _parts(torch.full((count,), n), model, problems):
        forced = problems.forced[part.start : part.stop]
        reader = _Reader(model, problems.prompts[part.start : part.stop], places)
        node = torch.arange(len(forced)).repeat_interleave(n)
        said = torch.empty(len(node), places, dtype=torch.long)
        for place in range(places):
            if forced[0, place] == MODELS_TURN:
                law = reader.logits.softmax(dim=-1)[node]
                said[:, place] = torch.multinomial(law, 1, generator=generator)[:, 0]
            else:
                said[:, place] = forced[:, place].repeat_interleave(n)
            if place + 1 < places:
                parent, token, node = _distinct(node, said[:, place])
                reader.read(parent, token)
        samples[part.start : part.stop] = said.view(len(forced), n, places)
    return samples


class Counted(NamedTuple):
    """What samples come to, means over problems and over which solution is the hidden one."""

    problems: int
    n: int
    """Samples of a problem."""
    right: list[tuple[float, int]]
    """Of each solution that was met: its weight, and how many samples are it."""
    samples: list[list[tuple[int, ...]]]
    """Of each problem: its number and what was said, in the order of drawing."""
    solutions: dict[tuple[int, ...], float]
    """Weight by problem and continuation."""

    def pass_at_k(self, k: int) -> float:
        """Σ w·(estimate of pass@k from how many of the samples are that solution): unbiased, also for few samples."""
        weight, count = torch.tensor(self.right, dtype=torch.float64).view(-1, 2).T
        passed = torch.from_numpy(estimated_pass_at_k(self.n, count.long().numpy(), k))
        return float((weight * passed).sum() / self.problems)

    def majority_vote(self, n: int) -> float:
        """Chance that the commonest of `n` samples is right, over groups of n; uniform among those that tie."""
        votes: list[float] = []
        for said in self.samples:
            for first in range(0, self.n - n + 1, n):
                count = Counter(said[first : first + n])
                most = max(count.values())
                tied = [self.solutions.get(key, 0.0) for key, c in count.items() if c == most]
                votes.append(sum(tied) / len(tied))
        return sum(votes) / len(votes)


def counted(problems: Problems, samples: Int[Tensor, "problem sample place"]) -> Counted:
    """Samples held against the solutions."""
    keys = torch.cat([problems.problem[:, None], problems.paths], dim=1).tolist()
    solutions = {tuple(key): w for key, w in zip(keys, problems.weight.tolist(), strict=True)}
    said = [[(i, *sample) for sample in of] for i, of in enumerate(samples.tolist())]
    right = [
        (solutions[key], c) for of in said for key, c in Counter(of).items() if key in solutions
    ]
    return Counted(len(said), samples.shape[1], right, said, solutions)


class _Reader:
    """Continuations of prompts, read one token at a time; `logits` are those after the last token of each, float64."""

    def __init__(self, model: Model, prompts: Int[Tensor, "problem pos"], places: int):
        self._model = model
        self._capacity = prompts.shape[1] + places
        self._cache = model.kv_cache(len(prompts), self._capacity)
        self.logits = self._read(prompts)

    def read(self, parent: Int[Tensor, " node"], token: Int[Tensor, " node"]) -> None:
        """Go on from some of the continuations, each with a token of its own; these are then what there is."""
        if self._cache is not None and not torch.equal(parent, torch.arange(len(self.logits))):
            self._cache = _branched(self._model, self._cache, parent, self._capacity)
        self.logits = self._read(token[:, None])

    def _read(self, tokens: Int[Tensor, "node new"]) -> Float[Tensor, "node vocab"]:
        tokens = tokens.to(next(self._model.parameters()).device)
        cache = self._cache
        logits = self._model(tokens) if cache is None else self._model(tokens, cache=cache)  # type: ignore[call-arg]
        return logits[:, -1].double().cpu()


def _branched(model: Model, cache: KVCache, parent: Int[Tensor, " node"], capacity: int) -> KVCache:
    """A cache that has read, for every node, what its parent's has."""
    grown = model.kv_cache(len(parent), capacity)
    assert grown is not None, "as the parent's"
    parent, length = parent.to(cache.k.device), cache.length
    grown.k[:, :, :, :length] = cache.k[:, parent, :, :length]
    grown.v[:, :, :, :length] = cache.v[:, parent, :, :length]
    grown.tokens[:, :length] = cache.tokens[parent, :length]
    grown.length = length
    return grown


def _distinct(node: Int[Tensor, " path"], token: Int[Tensor, " path"]) -> tuple[Tensor, Tensor, Tensor]:
    """The different pairs of parent and token, in order, and which of them each path goes on from."""
    base = int(token.max()) + 1
    pairs, of = torch.unique(node * base + token, return_inverse=True)
    return pairs // base, pairs % base, of


def _parts(each: Int[Tensor, " problem"], model: Model, problems: Problems) -> list[range]:
    """Successive problems, so many together that what is kept of their continuations fits into `_AT_ONCE`.

    `each` says how many continuations a problem has at once.
    """
    capacity = problems.prompts.shape[1] + problems.paths.shape[1]
    cache = model.kv_cache(1, capacity)
    bytes_each = 64 * model.d_vocab + (0 if cache is None else cache.k.nbytes + cache.v.nbytes)
    parts: list[range] = []
    start, held = 0, 0
    for i, n in enumerate(each.tolist()):
        if i > start and (held + n) * bytes_each > _AT_ONCE:
            parts.append(range(start, i))
            start, held = i, 0
        held += n
    return [*parts, range(start, len(each))]
