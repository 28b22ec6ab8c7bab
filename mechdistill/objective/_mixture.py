"""The training objective L = (1 - alpha)·CE(label) + alpha·KL(teacher ‖ student), one code for every arm."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.objective._divergences import cross_entropy, forward_kl


class Losses(NamedTuple):
    """Means over the positions of a batch, nats per token, each with its gradient."""

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]
    kl: Float[Tensor, ""] | None  # None without a teacher


def soften(log_probs: Float[Tensor, "batch pos vocab"], temperature: float) -> Float[Tensor, "batch pos vocab"]:
    """The teacher's law at a temperature: softmax(log p / T), renormalised; T = 1 changes nothing."""
    return log_probs if temperature == 1 else (log_probs / temperature).log_softmax(dim=-1)


def mixture(
    logits: Float[Tensor, "batch pos vocab"],
    next_tokens: Int[Tensor, "batch pos"],
    teacher: Float[Tensor, "batch pos vocab"] | None,
    *,
    alpha: float,
    temperature: float = 1.0,
) -> Losses:
    """L = (1 - alpha)·CE + alpha·KL(softmax(log p_teacher / T) ‖ softmax(logits)), averaged over all positions.

    The temperature softens the teacher only, and the gradient is not scaled by T² (Goyal et al. 2025). alpha = 0 is
    standard training through the same lines; then `teacher` must be None, and it must not be otherwise.
    """
    if (alpha > 0) != (teacher is not None):
        raise ValueError(f"alpha={alpha}: a teacher's log-probabilities are needed iff alpha > 0")
    log_probs = logits.float().log_softmax(dim=-1)
    hard = cross_entropy(log_probs, next_tokens).mean()
    if teacher is None:
        return Losses((1 - alpha) * hard, hard, None)
    soft = forward_kl(soften(teacher.float(), temperature), log_probs).mean()
    return Losses((1 - alpha) * hard + alpha * soft, hard, soft)
