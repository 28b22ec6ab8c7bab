"""Teachers made worse: with noise, or with their information taken away and their softness left."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import hashed_seed
from mechdistill.config.teachers import NoisyTeacher, PermutedTeacher
from mechdistill.laws import mixed, uniform_like
from mechdistill.teachers._exact import named_or_oracle
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import Labels


class Noisy(Teacher):
    """(1 - epsilon)·p + epsilon/vocab, everywhere or where the oracle's entropy is at most `below` nats.

    On a certain oracle target it puts 1 - epsilon + epsilon/vocab, so that its KL to the oracle there is minus the
    log of that, between 0 and ln(vocab); at epsilon = 1 it is at chance, 1/vocab. With a large `below` everything is
    noisy, with below = 0 only what is certain. Source: the imperfect teacher of arXiv 2509.01649.
    """

    entry = NoisyTeacher

    def __init__(self, teacher: Teacher, epsilon: float = 0.1, below: float | None = None):
        super().__init__(repr(float(epsilon)), repr(below), parts=(teacher,))
        self._epsilon, self._below = epsilon, below

    @classmethod
    def from_config(cls, config: NoisyTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the named teacher or the oracle."""
        return cls(named_or_oracle(parts, setting), config.epsilon, config.below)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log((1 - epsilon)·p + epsilon/vocab)."""
        log_probs = self.parts[0].log_probs(tokens, labels)
        epsilon = torch.tensor(self._epsilon, dtype=torch.float64, device=log_probs.device)
        noisy = mixed(log_probs, uniform_like(log_probs), epsilon)
        if self._below is None:
            return noisy
        certain = (labels.oracle_entropy <= self._below).to(log_probs.device)
        return torch.where(certain[..., None], noisy, log_probs)


class Permuted(Teacher):
    """p(sigma_s(y)): for each current token s one random permutation sigma_s of the vocabulary, the same everywhere.

    Its entropy is the teacher's at every position, but which token is likely says nothing about the world: averaged
    over seeds its law is uniform, copy accuracy 1/vocab (chance). The permutations are fixed for a run, so that a
    student can learn them: a placebo for what rows say, none for copying. At copyable positions it is a bijective
    relabelling of the target, and whoever fits it still needs the circuit that looks the target up.
    Source: the placebo for "soft targets help by being soft", as permuted-logit controls since Furlanello et al. 2018
    (DKPP).
    """

    entry = PermutedTeacher

    def __init__(self, teacher: Teacher, vocab: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self._sigma = torch.rand(vocab, vocab, generator=generator, dtype=torch.float64).argsort(dim=-1)
        super().__init__(self._sigma.numpy().tobytes(), parts=(teacher,))

    @classmethod
    def from_config(cls, config: PermutedTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of the named teacher or the oracle; permutations differ by name and by student seed."""
        seed = hashed_seed(f"permuted:{setting.name}:{setting.seed}")
        return cls(named_or_oracle(parts, setting), setting.world.vocab, seed)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log p(sigma_s(y)) where the current token is s."""
        law = self.parts[0].log_probs(tokens, labels)
        return law.gather(-1, self._sigma[tokens].to(law.device))
