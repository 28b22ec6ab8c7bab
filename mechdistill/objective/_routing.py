"""Routing: choosing, by a signal, the positions that lose the distillation term. Ties are broken at random.

To add a signal, see `config.SIGNALS`.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mechdistill.config import SIGNALS, RoutingConfig
from mechdistill.laws import entropy, forward_kl
from mechdistill.objective._own import values_by_position


class Seen(NamedTuple):
    """What a signal can be made of."""

    teacher_log_probs: Float[Tensor, "batch pos vocab"]  # the law, not draws from it, and before any temperature
    student_log_probs: Float[Tensor, "batch pos vocab"]
    copyable: Bool[Tensor, "batch pos"]
    random: Float[Tensor, "batch pos"]  # uniform in [0, 1), independent of all else


def teacher_entropy(seen: Seen) -> Float[Tensor, "batch pos"]:
    """Entropy of the teacher's law, nats, in [0, ln(vocab)]; a guessing teacher (chance) has ln(vocab) everywhere.

    Its low tail is the routing of arXiv 2509.01649, its high tail at alpha 1 the opposite route. A teacher without a
    copy circuit is uncertain exactly where copying is possible, so that its precision against copyable positions falls
    with the teacher's quality.
    """
    return entropy(seen.teacher_log_probs)


def oracle_class(seen: Seen) -> Float[Tensor, "batch pos"]:
    """0 at copyable positions and 1 elsewhere: routing with precision 1, which no signal beats.

    By chance a position is copyable with the share that `mechdistill sandbox` prints. Source: the sandbox's labels.
    """
    return 1.0 - seen.copyable.float()


def student_entropy(seen: Seen) -> Float[Tensor, "batch pos"]:
    """Entropy of the student's law, nats, in [0, ln(vocab)]; ln(vocab) everywhere when untrained (chance).

    Source: selection by the learner's own confidence, as in self-paced learning (Kumar et al. 2010).
    """
    return entropy(seen.student_log_probs)


def student_teacher_kl(seen: Seen) -> Float[Tensor, "batch pos"]:
    """KL(teacher ‖ student), nats, in [0, inf): where the two disagree; 0 for a student that is its teacher (chance:
    ln(vocab) - H(teacher) when untrained).

    Source: selection by disagreement, after token-level selective distillation (Wang et al. 2021).
    """
    return forward_kl(seen.teacher_log_probs, seen.student_log_probs)


def random(seen: Seen) -> Float[Tensor, "batch pos"]:
    """A placebo: uniform in [0, 1). Its precision is the share of copyable positions, its recall the routed fraction
    (chance for every other signal). Source: the control of every routing arm."""
    return seen.random


def route(config: RoutingConfig, seen: Seen) -> Bool[Tensor, "batch pos"]:
    """The routed positions.

    With `quantile` q exactly round(q·n) of the n positions of each sequence (or of the batch) are routed, those of
    the lowest (or highest) signal; among equals the choice is uniform, so no position is preferred. With `nats` all
    positions at or beyond the threshold are.
    """
    return choose(config, values_by_position(SIGNALS, config.signal, seen.random, seen), seen.random)


def choose(
    config: RoutingConfig, signal: Float[Tensor, "batch pos"], random: Float[Tensor, "batch pos"]
) -> Bool[Tensor, "batch pos"]:
    """The routed positions, given the signal everywhere; `random` numbers in [0, 1) decide among equals."""
    signal = signal if config.tail == "low" else -signal
    if config.quantile is None:
        cut = config.by.cut if config.nats is None else config.nats
        assert cut is not None
        return signal <= (cut if config.tail == "low" else -cut)
    groups = signal if config.scope == "sequence" else signal.reshape(1, -1)
    shuffle = random.reshape(groups.shape).argsort(dim=-1)
    order = shuffle.gather(-1, groups.gather(-1, shuffle).argsort(dim=-1, stable=True))
    chosen = order[:, : config.taken(groups.shape[-1])]
    return torch.zeros_like(groups, dtype=torch.bool).scatter(-1, chosen, True).reshape(signal.shape)
