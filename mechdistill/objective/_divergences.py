"""Cross-entropy with the label, and divergences between the teacher's and the student's law; all per token."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cross_entropy(
    log_probs: Float[Tensor, "batch pos vocab"], next_tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    """-log q(next token), nats per token; range [0, inf), uniform guessing scores ln(vocab)."""
    return -log_probs.gather(-1, next_tokens[..., None])[..., 0]


def forward_kl(
    teacher: Float[Tensor, "batch pos vocab"], student: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, "batch pos"]:
    """KL(teacher ‖ student) = Σ p (log p - log q), nats per token; arguments are normalised log-probabilities.

    Range [0, inf) up to rounding; 0 iff the laws agree; a uniform student against a one-hot teacher scores
    ln(vocab), the chance level. A token that the teacher excludes (p = 0) adds nothing to value or gradient,
    whatever the student's logit. Its gradient in the student's logits is q - p, that of soft cross-entropy, from
    which it differs by the teacher's entropy. Source: Hinton et al. 2015.
    """
    possible = teacher > -torch.inf
    difference = torch.where(possible, teacher, 0.0) - torch.where(possible, student, 0.0)
    return (teacher.exp() * difference).sum(dim=-1)


DIVERGENCES = {"forward-kl": forward_kl}
