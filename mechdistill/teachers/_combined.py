"""Teachers computed from others, position by position: their mean, one here and another there, one made softer."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config.teachers import EnsembleTeacher, SpliceTeacher, TemperatureTeacher
from mechdistill.laws import soften
from mechdistill.teachers._devices import together
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import Labels


class Ensemble(Teacher):
    """The mean of the probabilities of several teachers.

    Its KL to the oracle is at most the mean of theirs (convexity), and its copy mass is the mean of theirs; equal
    teachers, guessing ones included (chance, 1/vocab), stay what they are. Source: Hinton et al. 2015.
    """

    entry = EnsembleTeacher

    def __init__(self, *teachers: Teacher):
        super().__init__(parts=teachers)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log of the mean of the probabilities."""
        log_probs = torch.stack(together(part.log_probs(tokens, labels) for part in self.parts))
        return log_probs.logsumexp(dim=0) - math.log(len(log_probs))


class Splice(Teacher):
    """One teacher at copyable positions (occurrence >= 2 of a trigger) and another elsewhere.

    Its copy accuracy is the first one's and its KL on ordinary rows the second one's, so that copy error and bigram
    error come apart; chance is 1/vocab for both. Source: the sandbox's labels.
    """

    entry = SpliceTeacher

    def __init__(self, copyable: Teacher, elsewhere: Teacher):
        super().__init__(parts=(copyable, elsewhere))

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
