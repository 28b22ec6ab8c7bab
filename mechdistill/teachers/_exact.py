"""Teachers that know the world: the oracle, the oracle without any copying, and the law of knowing nothing."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config.teachers import BigramTeacher, OracleTeacher, UniformTeacher
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import KnownWorld, Labels, known


class Oracle(Teacher):
    """The Bayes-optimal law given the whole prefix: a perfect teacher, whose copy targets are one-hot without noise.

    Its KL to the oracle is 0 by definition, and at occurrence >= 2 without noise its copy accuracy is 1; chance is
    1/vocab. Source: the sandbox's own generative process (`KnownWorld.law`).
    """

    entry = OracleTeacher

    def __init__(self, world: KnownWorld):
        super().__init__(world.identity(triggers=True))

    @classmethod
    def from_config(cls, config: OracleTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """The oracle of the student's sandbox."""
        return cls(known(setting.world, f"teacher '{setting.name}'"))

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """The oracle's log-law, which the labels of the tokens have."""
        return labels.log_probs


class Bigram(Teacher):
    """The transition matrix itself: exact on ordinary rows, and at triggers the ordinary row, so it never copies.

    Its KL to the oracle is 0 at occurrence 0; at occurrence >= 2 it puts pi_t(c) on the right target, at chance
    1/vocab on average over uniform targets. Source: the null model of the sandbox study (Bietti et al. 2023).
    """

    entry = BigramTeacher

    def __init__(self, world: KnownWorld):
        super().__init__(world.identity())
        self._log_pi = world.log_pi

    @classmethod
    def from_config(cls, config: BigramTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """The transition matrix of the student's sandbox."""
        return cls(known(setting.world, f"teacher '{setting.name}'"))

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log pi of the current token's row."""
        return self._log_pi[tokens]


class Uniform(Teacher):
    """1/vocab everywhere: the chance level itself, and distilling from it is label smoothing.

    Its KL to the oracle is ln(vocab) - H(oracle), its copy accuracy near 1/vocab (argmax takes the first of equals).
    Source: Szegedy et al. 2016; as a teacher, Yuan et al. 2020 (teacher-free distillation).
    """

    entry = UniformTeacher

    def __init__(self, vocab: int):
        super().__init__(repr(vocab))
        self._vocab = vocab

    @classmethod
    def from_config(cls, config: UniformTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Over the tokens of the student's sandbox."""
        return cls(setting.world.vocab)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """-ln(vocab)."""
        return torch.full((*tokens.shape, self._vocab), -math.log(self._vocab))


def named_or_oracle(parts: Sequence[Teacher], setting: Setting) -> Teacher:
    """The teacher that an entry is made of: the one that it names, or the oracle."""
    return parts[0] if parts else Oracle(known(setting.world, f"teacher '{setting.name}'"))
