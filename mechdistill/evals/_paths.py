"""How likely a model is to say what is right: every solution of a problem followed to its end, or samples drawn.

Both read a prompt once: what follows is read token by token, from a copy of the cache for every way in which the
continuation can go on.
"""

from collections import Counter
from copy import copy
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.evals._estimate import estimated_pass_at_k
from mechdistill.evals._problems import MODELS_TURN, Problems
from mechdistill.model import Bigram, KVCache, Model

_AT_ONCE = 2**25  # bytes of the cache, or of the laws, of what is read together


@torch.no_grad()
def path_chances(model: Model, problems: Problems, temperatures: list[float]) -> Float[Tensor, "path temperature"]:
    """The chance that a sample of the model is the solution, exactly: the product of its chances at every turn.

    q is softmax(logits / temperature), in float64. The chances of a problem's solutions sum to at most 1.
    """
    heat = torch.tensor(temperatures, dtype=torch.float64)
    places = problems.paths.shape[1]
    begun = torch.cat([problems.problem[:, None], problems.paths[:, :-1]], dim=1)
    goes_on = torch.cat([torch.zeros(1), (begun[1:] != begun[:-1]).any(dim=1).long().cumsum(0)]).long()
    log_p = torch.zeros(len(problems.paths), len(heat), dtype=torch.float64)
    for part in _parts(goes_on, model, problems):
        total, paths = log_p[part], problems.paths[part]
        reader, node = _reading(model, problems, problems.problem[part])
        for place in range(places):
            if problems.forced[0, place] == MODELS_TURN:
                law = (reader.logits[:, None] / heat[:, None]).log_softmax(dim=-1)  # [node, temperature, vocab]
                total += law[node, :, paths[:, place]]
            if place + 1 < places:
                node = reader.read(node, paths[:, place])
    return log_p.exp()


@torch.no_grad()
def drawn(model: Model, problems: Problems, n: int, generator: torch.Generator) -> Int[Tensor, "problem sample place"]:
    """`n` continuations of every problem, token by token as `generate` draws them, at temperature 1."""
    count, places = problems.forced.shape
    problem = torch.arange(count).repeat_interleave(n)
    samples = problems.forced[problem]
    for part in _parts(torch.arange(count * n), model, problems):
        said = samples[part]
        reader, node = _reading(model, problems, problem[part])
        for place in range(places):
            if problems.forced[0, place] == MODELS_TURN:
                law = reader.logits.softmax(dim=-1)[node]
                said[:, place] = torch.multinomial(law, 1, generator=generator)[:, 0]
            if place + 1 < places:
                node = reader.read(node, said[:, place])
    return samples.view(count, n, places)


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
        passed = torch.as_tensor(estimated_pass_at_k(self.n, count.long().numpy(), k))
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
    right = [(solutions[key], c) for of in said for key, c in Counter(of).items() if key in solutions]
    return Counted(len(said), samples.shape[1], right, said, solutions)


class _Reader:
    """Continuations of prompts, read one token at a time; `logits` are those after the last token of each, float64."""

    def __init__(self, model: Model, prompts: Int[Tensor, "problem pos"], places: int):
        self._model = model
        self._cache = model.kv_cache(len(prompts), prompts.shape[1] + places)
        self.logits = self._read(prompts)

    def read(self, node: Int[Tensor, " path"], token: Int[Tensor, " path"]) -> Int[Tensor, " path"]:
        """Read a token of every path behind the continuation, `node`, that it has come to; gives where it is then.

        What paths have in common is read once.
        """
        base = int(token.max()) + 1
        pairs, of = torch.unique(node * base + token, return_inverse=True)
        parent = pairs // base
        if self._cache is not None and not torch.equal(parent, torch.arange(len(self.logits))):
            self._cache = _branched(self._cache, parent)
        self.logits = self._read((pairs % base)[:, None])
        return of

    def _read(self, tokens: Int[Tensor, "node new"]) -> Float[Tensor, "node vocab"]:
        tokens = tokens.to(next(self._model.parameters()).device)
        model = self._model
        logits = model(tokens) if isinstance(model, Bigram) else model(tokens, cache=self._cache)
        return logits[:, -1].double().cpu()


def _reading(model: Model, problems: Problems, problem: Int[Tensor, " path"]) -> tuple[_Reader, Int[Tensor, " path"]]:
    """A reader of the prompts of some paths, whose problems are in order, and where each path is: behind its prompt."""
    first, last = int(problem[0]), int(problem[-1])
    return _Reader(model, problems.prompts[first : last + 1], problems.paths.shape[1]), problem - first


def _branched(cache: KVCache, parent: Int[Tensor, " node"]) -> KVCache:
    """A cache that has read, for every node, what its parent's has."""
    grown, parent = copy(cache), parent.to(cache.k.device)
    grown.k, grown.v = (part.index_select(1, parent) for part in (cache.k, cache.v))
    grown.tokens = cache.tokens[parent]
    return grown


def _parts(goes_on: Int[Tensor, " path"], model: Model, problems: Problems) -> list[slice]:
    """Successive paths, so many together that what is kept of them fits into `_AT_ONCE`.

    `goes_on` numbers what has to be read of the paths: those of one number have all but their last token in common.
    """
    cache = model.kv_cache(1, problems.prompts.shape[1] + problems.paths.shape[1])
    bytes_each = 80 * model.d_vocab + (0 if cache is None else cache.k.nbytes + cache.v.nbytes)
    part = goes_on // max(1, _AT_ONCE // bytes_each)
    ends = [*((part[1:] != part[:-1]).nonzero()[:, 0] + 1).tolist(), len(part)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
