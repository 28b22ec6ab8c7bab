"""The training objective L = mean over positions of w·CE(label) + a·D(teacher, student), one code for every arm.

Where each term has a mean of its own (`per_term`) it is this in the weights, so that nothing else knows of it.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mechdistill.laws import cross_entropy, forward_kl, soften


class Weights(NamedTuple):
    """What each position's terms count: the cross-entropy's w and the distillation term's a."""

    hard: Float[Tensor, "batch pos"]
    soft: Float[Tensor, "batch pos"]
    routed: Bool[Tensor, "batch pos"]  # positions that lost their distillation term to routing


class Losses(NamedTuple):
    """Sums over the valid positions of a batch over their count, nats per token, each with its gradient."""

    total: Float[Tensor, ""]
    cross_entropy: Float[Tensor, ""]  # with the plain label, unweighted
    smoothed: Float[Tensor, ""]  # with the smoothed label, unweighted; the same without smoothing
    divergence: Float[Tensor, ""] | None  # unweighted; None without a teacher


def per_term(weights: Weights, valid: Bool[Tensor, "batch pos"] | None = None) -> Weights:
    """Weights with which the mean over all n positions is the sum of each term's mean over its own positions.

    w·n/#{w > 0} and a·n/#{a > 0}, so that (1/n)·Σ w·CE + a·D becomes Σ w·CE/#{w > 0} + Σ a·D/#{a > 0}; a term that
    weighs nowhere stays 0. Routed positions then take nothing from the size of the distillation term, however few
    are left to it.

    Of a whole batch of the optimiser: a part of it takes its part of these weights, and the count of the whole, and
    never its own. With `valid` only those positions are counted.
    """
    counted = torch.ones_like(weights.hard, dtype=torch.bool) if valid is None else valid
    n = counted.sum()

    def alone(weight: Float[Tensor, "batch pos"]) -> Float[Tensor, "batch pos"]:
        return weight * n / ((weight > 0) & counted).sum().clamp(min=1)

    return Weights(alone(weights.hard), alone(weights.soft), weights.routed)


def smoothed_cross_entropy(
    log_probs: Float[Tensor, "batch pos vocab"], next_tokens: Int[Tensor, "batch pos"], smoothing: float
) -> Float[Tensor, "batch pos"]:
    """Cross-entropy with the label (1 - s)·y + s/vocab, nats per token; s = 0 is plain cross-entropy.

    Its minimum is no longer 0 but the smoothed label's entropy; uniform guessing scores ln(vocab) for every s. Tokens
    that the student excludes take no part. Source: Szegedy et al. 2016.
    """
    hard = cross_entropy(log_probs, next_tokens)
    possible = log_probs > -torch.inf
    uniform = -torch.where(possible, log_probs, 0.0).sum(dim=-1) / possible.sum(dim=-1)
    return (1 - smoothing) * hard + smoothing * uniform


def mixture(
    log_probs: Float[Tensor, "batch pos vocab"],
    next_tokens: Int[Tensor, "batch pos"],
    teacher_log_probs: Float[Tensor, "batch pos vocab"] | None,
    weights: Weights,
    *,
    divergence: Callable[[Tensor, Tensor], Tensor] = forward_kl,
    temperature: float = 1.0,
    soften_both: bool = False,
    smoothing: float = 0.0,
    valid: Bool[Tensor, "batch pos"] | None = None,
    count: int | None = None,
) -> Losses:
    """L = Σ over valid positions of w·CE(label) + a·D(teacher at T, student), over `count`.

    `log_probs` are the student's, normalised in at least float32. The temperature softens the teacher only and the
    term is not scaled (Goyal et al. 2025), or both, and the term is scaled by T² (Hinton et al. 2015). Standard
    training goes through the same lines without a teacher.

    The mean is over all positions unless `valid` says which (padding then never enters the computation, whatever it
    holds). A batch in several parts gives the gradient of the whole if `count` is the valid count of the whole.
    """
    if valid is not None:
        log_probs, next_tokens = log_probs[valid][None], next_tokens[valid][None]
        weights = Weights(*(field[valid][None] for field in weights))
        teacher_log_probs = None if teacher_log_probs is None else teacher_log_probs[valid][None]
    count = count or max(next_tokens.numel(), 1)
    plain = cross_entropy(log_probs, next_tokens)
    hard = smoothed_cross_entropy(log_probs, next_tokens, smoothing) if smoothing else plain
    if teacher_log_probs is None:
        return Losses((weights.hard * hard).sum() / count, plain.sum() / count, hard.sum() / count, None)
    student_log_probs = soften(log_probs, temperature) if soften_both else log_probs
    soft = divergence(soften(teacher_log_probs.to(log_probs.dtype), temperature), student_log_probs)
    if soften_both:
        soft = soft * temperature**2
    total = (weights.hard * hard + weights.soft * soft).sum() / count
    return Losses(total, plain.sum() / count, hard.sum() / count, soft.sum() / count)
