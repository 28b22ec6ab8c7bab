"""Teachers computed from others, position by position: their mean, one here and another there, one made softer."""

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config.teachers import EnsembleTeacher, SpliceTeacher, TemperatureTeacher
from mechdistill.laws import soften
from mechdistill.teachers._devices import together
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import Labels


class _Linear(Teacher):
    """What is linear in the probabilities of its parts, so that its mean over draws is that of their means."""

    def __init__(self, *teachers: Teacher):
        super().__init__(parts=teachers)

    def expected(self) -> Teacher | None:
        """Itself where nothing is drawn; else made of the means of its parts, where all of them are worked out."""
        return self._expected

    @cached_property  # parts of parts can be shared: without it there would be as many as paths to them
    def _expected(self) -> Teacher | None:
        means = [part.expected() for part in self.parts]
        if all(mean is part for mean, part in zip(means, self.parts, strict=True)):
            return self
        known = [mean for mean in means if mean is not None]
        return type(self)(*known) if len(known) == len(means) else None


class Ensemble(_Linear):
    """The mean of the probabilities of several teachers.

    Its KL to the oracle is at most the mean of theirs (convexity), and its copy mass is the mean of theirs; equal
    teachers, guessing ones included (chance, 1/vocab), stay what they are. Source: Hinton et al. 2015. Of a teacher and
    its own likeliest token (`TopK` with k = 1) it is the equal mix of soft and hard targets of arXiv 2605.26246.
    """

    entry = EnsembleTeacher

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log of the mean of the probabilities."""
        log_probs = torch.stack(together(part.log_probs(tokens, labels) for part in self.parts))
        return log_probs.logsumexp(dim=0) - math.log(len(log_probs))


class Splice(_Linear):
    """One teacher at copyable positions (occurrence >= 2 of a trigger) and another elsewhere.

    Its copy accuracy is the first one's and its KL on ordinary rows the second one's, so that copy error and bigram
    error come apart; chance is 1/vocab for both. Source: the sandbox's labels.
    """

    entry = SpliceTeacher

    def __init__(self, copyable: Teacher, elsewhere: Teacher):
        super().__init__(copyable, elsewhere)

    @classmethod
    def from_config(cls, config: SpliceTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the two named teachers."""
        return cls(*parts)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """The one's law or the other's, to the bit."""
        copyable, elsewhere = together(part.log_probs(tokens, labels) for part in self.parts)
        return torch.where(labels.copyable.to(copyable.device)[..., None], copyable, elsewhere)


class Temperature(Teacher):
    """softmax(log p / T): T > 1 is softer, T < 1 sharper, T = 1 changes nothing.

    Between the likeliest tokens alone (T -> 0) and the uniform law over those that the teacher allows (T -> inf),
    where accuracy falls to chance, 1/vocab, only in the limit: the order of the tokens stays. Source: Hinton et al.
    2015; on the teacher only, as in arXiv 2509.01649.
    """

    entry = TemperatureTeacher

    def __init__(self, teacher: Teacher, temperature: float):
        super().__init__(repr(float(temperature)), parts=(teacher,))
        self._temperature = temperature

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log softmax(log p / T), computed in float64."""
        return soften(self.parts[0].log_probs(tokens, labels).double(), self._temperature).float()
