"""Cross-entropy with the label, and divergences between the teacher's and the student's law; all per token.

Laws are normalised log-probabilities with the vocabulary last, p the teacher's and q the student's; -inf excludes a
token. Values keep the dtype of the laws: upcast half-precision logits before `log_softmax`, not after.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cross_entropy(
    log_probs: Float[Tensor, "batch pos vocab"], next_tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch pos"]:
    """-log q(next token), nats per token; range [0, inf), uniform guessing scores ln(vocab)."""
    return -log_probs.gather(-1, next_tokens[..., None])[..., 0]


def soft_cross_entropy(
    teacher_log_probs: Float[Tensor, "batch pos vocab"], student_log_probs: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, "batch pos"]:
    """-Σ p log q, nats per token: forward KL plus the teacher's entropy, with the same gradient q - p in the logits.

    Range [H(p), inf), so it is not 0 where the laws agree; a uniform student scores ln(vocab) against any teacher.
    A token that the teacher excludes adds nothing to value or gradient. Source: Hinton et al. 2015.
    """
    possible = teacher_log_probs > -torch.inf
    return -(teacher_log_probs.exp() * torch.where(possible, student_log_probs, 0.0)).sum(dim=-1)


def entropy(log_probs: Float[Tensor, "batch pos vocab"]) -> Float[Tensor, "batch pos"]:
    """H(p) = -Σ p log p, nats per token; range [0, ln(vocab)], the uniform law scores ln(vocab).

    An excluded token adds nothing to value or gradient. Its gradient in the logits is -p (log p + H).
    """
    return soft_cross_entropy(log_probs, log_probs)


def forward_kl(
    teacher_log_probs: Float[Tensor, "batch pos vocab"], student_log_probs: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, "batch pos"]:
    """KL(teacher ‖ student) = Σ p (log p - log q), nats per token; arguments are normalised log-probabilities.

    Range [0, inf) up to rounding; 0 iff the laws agree; a uniform student against a one-hot teacher scores
    ln(vocab), the chance level. A token that the teacher excludes (p = 0) adds nothing to value or gradient,
    whatever the student's logit. Its gradient in the student's logits is q - p, that of soft cross-entropy, from
    which it differs by the teacher's entropy. Source: Hinton et al. 2015.
    """
    possible = teacher_log_probs > -torch.inf
    difference = torch.where(possible, teacher_log_probs, 0.0) - torch.where(possible, student_log_probs, 0.0)
    return (teacher_log_probs.exp() * difference).sum(dim=-1)


def reverse_kl(
    teacher_log_probs: Float[Tensor, "batch pos vocab"], student_log_probs: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, "batch pos"]:
    """KL(student ‖ teacher) = Σ q (log q - log p), nats per token.

    Range [0, inf] up to rounding; 0 iff the laws agree; +inf, without a usable gradient, where the teacher excludes a
    token that the student allows, which is where a uniform student stands with a one-hot teacher (chance). A token
    that the student excludes adds nothing to value or gradient. Its gradient in the student's logits is
    q (log q/p - KL). Source: Gu et al. 2024 (MiniLLM).
    """
    unreachable = ((teacher_log_probs == -torch.inf) & (student_log_probs > -torch.inf)).any(dim=-1)
    # infinite by definition, where the sum would have 0·inf for a token whose q underflows
    return torch.where(unreachable, torch.inf, forward_kl(student_log_probs, teacher_log_probs))


def jsd(
    teacher_log_probs: Float[Tensor, "batch pos vocab"],
    student_log_probs: Float[Tensor, "batch pos vocab"],
    beta: float,
) -> Float[Tensor, "batch pos"]:
    """beta·KL(p ‖ m) + (1 - beta)·KL(q ‖ m), m = beta·p + (1 - beta)·q, nats per token.

    Range [0, H(beta)] up to rounding, H(beta) = -beta ln beta - (1 - beta) ln(1 - beta), reached where the laws share
    no token (ln 2 at beta = 1/2); 0 iff they agree. A uniform student against a one-hot teacher scores
    -c ln c - (1 - c) ln(1 - beta) - (1 - beta) ln(vocab)/vocab with c = beta + (1 - beta)/vocab, the chance level,
    which goes to H(beta) as the vocabulary grows. Its gradient in the student's logits is
    (1 - beta)·q (log q/m - KL(q ‖ m)).

    It vanishes, gradient and all, as beta goes to 0 or 1, where it is therefore refused (`normalised_jsd` does not):
    raises ValueError unless 0 < beta < 1. Source: Lin 1991; as a loss Agarwal et al. 2024 (GKD).
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta={beta}: must be strictly between 0 and 1, where jsd is 0; normalised-jsd is not")
    return beta * (1 - beta) * normalised_jsd(teacher_log_probs, student_log_probs, beta)


def normalised_jsd(
    teacher_log_probs: Float[Tensor, "batch pos vocab"],
    student_log_probs: Float[Tensor, "batch pos vocab"],
    beta: float,
) -> Float[Tensor, "batch pos"]:
    """JSD_beta / (beta (1 - beta)), nats per token: forward KL at beta = 0, reverse KL at beta = 1, continuous between.

    Range [0, H(beta) / (beta (1 - beta))] up to rounding (4 ln 2 at beta = 1/2; unbounded at the ends); 0 iff the laws
    agree; the chance level is that of `jsd` divided likewise: ln(vocab) at 0, infinite at 1. Its gradient in the
    student's logits is q (log q/m - KL(q ‖ m)) / beta. Raises ValueError unless 0 <= beta <= 1.
    Source: Huszár 2015 for the limits of Lin's (1991) divergence.

    m is never formed, since log m - log q cancels to nothing near the ends: with d = log p - log q it is
    log m/q = log(1 + beta (e^d - 1)), and log p/m = d - log m/q.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta}: must be between 0 and 1")
    if beta == 1:
        return reverse_kl(teacher_log_probs, student_log_probs)
    if beta > 0.5:  # the same number seen from the other law; so beta is the small one below, as log1p wants it
        return normalised_jsd(student_log_probs, teacher_log_probs, 1 - beta)
    if beta < 1e6 * torch.finfo(student_log_probs.dtype).tiny:  # 1e-32 in float32: a log divided by less could overflow
        return forward_kl(teacher_log_probs, student_log_probs)
    teacher_possible, student_possible = teacher_log_probs > -torch.inf, student_log_probs > -torch.inf
    both = teacher_possible & student_possible
    difference = torch.where(both, teacher_log_probs, 0.0) - torch.where(both, student_log_probs, 0.0)
    log_m_over_q = _log_skew(difference, beta)
    # a token that one law excludes: as d goes to -inf or inf (both terms finite, since the other law has it)
    log_p_over_m = torch.where(student_possible, difference - log_m_over_q, -math.log(beta))
    log_m_over_q = torch.where(teacher_possible, log_m_over_q, math.log1p(-beta))
    p, q = teacher_log_probs.exp(), student_log_probs.exp()
    return (p * (log_p_over_m / (1 - beta)) - q * (log_m_over_q / beta)).sum(dim=-1)


def total_variation(
    teacher_log_probs: Float[Tensor, "batch pos vocab"], student_log_probs: Float[Tensor, "batch pos vocab"]
) -> Float[Tensor, "batch pos"]:
    """½ Σ |p - q|, a probability: the most that an event's probability can differ between the two laws.

    Range [0, 1]; 0 iff the laws agree, 1 iff they share no token; a uniform student against a one-hot teacher scores
    1 - 1/vocab, the chance level. Its gradient in the student's logits is ½ q (s - Σ q s), s = sign(q - p) with 0
    where they agree: it does not shrink near the optimum, and vanishes where q does. Source: Wen et al. 2023.
    """
    return 0.5 * (teacher_log_probs.exp() - student_log_probs.exp()).abs().sum(dim=-1)


def _log_skew(difference: Float[Tensor, "batch pos vocab"], beta: float) -> Float[Tensor, "batch pos vocab"]:
    """log(1 + beta (e^d - 1)), to the dtype's relative precision near d = 0 and near beta = 0, for any finite d."""
    far = 30.0  # e^far is large enough for the - 1 not to matter and far from overflow
    near = torch.log1p(beta * torch.expm1(difference.clamp(max=far)))
    bound = difference.new_tensor(math.log1p(-beta))
    beyond = torch.logaddexp(difference.clamp(min=far) + math.log(beta), bound)
    return torch.where(difference < far, near, beyond)
