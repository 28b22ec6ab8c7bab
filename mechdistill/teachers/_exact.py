"""Teachers that know the world: the oracle, and the oracle without any copying."""

from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.sandbox import Labels, Sandbox
from mechdistill.teachers._protocol import teacher_id


class Oracle:
    """The Bayes-optimal law given the whole prefix: a perfect teacher, whose copy targets are one-hot.

    KL to the oracle is 0 by definition. Source: the sandbox's own generative process (`Sandbox.law`).
    """

    def __init__(self, sandbox: Sandbox):
        self.id = teacher_id("oracle", sandbox.config.model_dump_json().encode())

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """The oracle's log-law."""
        del tokens  # the labels were made from them
        return labels.law


class BigramTeacher:
    """The transition matrix itself: exact on ordinary rows, and at triggers the ordinary row, so it never copies.

    Its KL to the oracle is 0 at occurrence 0; at occurrence >= 2 it puts pi_t(c) on the right target, at chance
    1/vocab on average. Source: the null model of the sandbox study.
    """

    def __init__(self, sandbox: Sandbox):
        self._log_pi = sandbox.log_pi
        self.id = teacher_id("bigram", sandbox.config.model_dump_json().encode())

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log pi of the current token's row."""
        del labels
        return self._log_pi[tokens]
