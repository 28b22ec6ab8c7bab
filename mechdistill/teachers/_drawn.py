"""Teachers that draw random numbers at every step: labels, or which of equally likely tokens are kept."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import Traits
from mechdistill.config.teachers import SampledTeacher, TopKTeacher
from mechdistill.model import Model
from mechdistill.teachers._protocol import Moment, Setting, Teacher
from mechdistill.world import Labels

Tail = Literal["renormalise", "bucket"]


class _Drawing(Teacher):
    """Draws afresh after every `advance`, by the moment and its id alone; before the first, as at step 0 of seed 0.

    Its name is part of its id: two entries draw independently, however alike they are, and one entry draws the same
    in two arms of one seed.
    """

    def __init__(self, *content: str, part: Teacher, name: str, traits: Traits | None = None):
        super().__init__(*content, name, parts=(part,), traits=traits)
        self._generator = Moment(0, 1, 0).generator(self.id)

    def advance(self, moment: Moment, student: Model) -> None:
        """Start the draws of this moment."""
        self._generator = moment.generator(self.id)


class Sampled(_Drawing):
    """n labels drawn from a teacher at every position, as the law of their counts: an unbiased estimate of its law.

    Its expected squared distance from the teacher's is (1 - Σ p²) / n. Its probabilities are multiples of 1/n, and
    what was not drawn is excluded, so that its KL to the oracle is infinite where a possible token was missed. With
    the oracle and n = 1 it is a fresh label. At n = 1 its copy accuracy is the teacher's probability of the target,
    1/vocab for one that guesses (chance); at n >= 2, where argmax takes the first of equals, near that for one that
    guesses. Source: Anshumann et al. 2025 (random sampling distillation).
    """

    entry = SampledTeacher

    def __init__(self, teacher: Teacher, n: int, name: str = ""):
        """`name` is its entry's."""
        super().__init__(repr(n), part=teacher, name=name)
        self.n = n

    @classmethod
    def from_config(cls, config: SampledTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the named teacher."""
        return cls(parts[0], config.n, setting.name)

    def expected(self) -> Teacher | None:
        """What the labels are drawn from, or its mean."""
        return self.parts[0].expected()

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log(count / n) of n draws; nan where what they are drawn from has a nan or inf, and so is no law."""
        log_probs = self.parts[0].log_probs(tokens, labels)
        probs = log_probs.exp()
        uniform = torch.rand(*tokens.shape, self.n, generator=self._generator, dtype=torch.float64)
        drawn = inverse_cdf(probs, uniform.to(log_probs.device))
        counts = torch.zeros_like(log_probs).scatter_add(-1, drawn, log_probs.new_ones(1, 1, 1).expand_as(drawn))
        seen = (counts.gather(-1, drawn) / self.n).log()  # of what was drawn alone, since logarithms take longest
        seen = seen + 0 * probs.sum(dim=-1, keepdim=True)
        return torch.full_like(log_probs, -torch.inf).scatter(-1, drawn, seen)


class TopK(_Drawing):
    """The k likeliest tokens of a teacher; which of those that tie for the last places are kept is drawn.

    tail `renormalise`: the others get nothing, and the k share the whole mass in proportion. `bucket`: the k keep
    their probabilities and the others share the rest evenly, whatever each had; if the rest is 0 they get nothing.
    An excluded token is never kept in place of a possible one; k >= vocab changes nothing. Copy accuracy is the
    teacher's but for ties, about 1/vocab for one that guesses (chance); under `renormalise` the KL to the oracle
    is infinite where the oracle allows more than k tokens. Source: the top-1 teacher of arXiv 2509.01649; the tail,
    Anshumann et al. 2025.
    """

    entry = TopKTeacher

    def __init__(
        self,
        teacher: Teacher,
        k: int,
        tail: Tail = "renormalise",
        *,
        ties: Literal["random", "mean"] = "random",
        name: str = "",
    ):
        """`ties` mean: the mean law over the draws of random ties, which needs no draws. `name` is its entry's."""
        traits = replace(self.entry.traits, draws=ties == "random")
        super().__init__(repr(k), tail, ties, part=teacher, name=name, traits=traits)
        self.k, self.ties = k, ties
        self.tail: Tail = tail

    @classmethod
    def from_config(cls, config: TopKTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the named teacher."""
        return cls(parts[0], config.k, config.tail, name=setting.name)

    def expected(self) -> Teacher | None:
        """The mean over ties, if its teacher draws nothing: which tokens tie would differ from draw to draw."""
        part = self.parts[0]
        if self.ties == "random" and part.expected() is part:
            return TopK(part, self.k, self.tail, ties="mean")
        return super().expected()

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """The law of the k kept tokens, with the tail that was asked for."""
        log_probs = self.parts[0].log_probs(tokens, labels)
        others = log_probs.shape[-1] - self.k
        if others <= 0:
            return log_probs
        kept = self._kept(log_probs)
        head = log_probs + kept.log()
        if self.tail == "renormalise":
            return head.log_softmax(dim=-1)
        left_out = (1 - kept).log()
        each = (log_probs + left_out).logsumexp(dim=-1, keepdim=True) - math.log(others)
        return torch.logaddexp(head, left_out + each)

    def _kept(self, log_probs: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch pos vocab"]:
        """1 where a token is among the k likeliest, 0 where not; for mean ties the probability of that."""
        last = log_probs.topk(self.k, dim=-1).values[..., -1:]
        sure, tied = log_probs > last, log_probs == last
        if self.ties == "mean":
            places = self.k - sure.sum(dim=-1, keepdim=True)
            return torch.where(tied, places / tied.sum(dim=-1, keepdim=True), sure.float())
        lots = torch.rand(log_probs.shape, generator=self._generator).to(log_probs.device)
        priority = torch.where(sure, 2.0, torch.where(tied, lots, -1.0))
        return torch.zeros_like(log_probs).scatter(-1, priority.topk(self.k, dim=-1).indices, 1.0)


def inverse_cdf(
    probs: Float[Tensor, "batch pos vocab"], uniform: Float[Tensor, "batch pos draw"]
) -> Int[Tensor, "batch pos draw"]:
    """The first token whose cumulative probability is above uniform·total: never one of probability 0.

    `uniform` is float64 in [0, 1]. Not `multinomial`, which for one draw takes a random number for every token.
    """
    cumulative = probs.cumsum(dim=-1, dtype=torch.float64)
    total = cumulative[..., -1:]
    below = total.nextafter(torch.zeros_like(total))  # at the total itself nothing would be above
    return torch.searchsorted(cumulative, torch.minimum(uniform * total, below), right=True)
