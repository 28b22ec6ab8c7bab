"""Settings that an arm gives as a rule instead of a number: a table's best mix, and smoothing that matches an arm."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.errors import MechdistillError
from mechdistill.laws import forward_kl, mixed, uniform_like


def optimal_alpha(
    log_probs: Float[Tensor, "batch pos vocab"],
    target_log_probs: Float[Tensor, "batch pos vocab"],
    visits: Float[Tensor, "batch pos"],
) -> Float[Tensor, "batch pos"]:
    """alpha* = v / (v + n·b), v = 1 - Σp² of the oracle's law, b = ‖t - p‖² of the teacher, n the visits; in [0, 1].

    1 where the teacher is exact or nothing was seen yet, 0 where the label is certain and the teacher is not. It
    minimises the squared error (1-alpha)²·v/n + alpha²·b of a table. Source: after Menon et al. 2021.
    """
    p, t = log_probs.exp(), target_log_probs.exp()
    variance = (1 - p.square().sum(dim=-1)).clamp(min=0)
    bias = visits * (t - p).square().sum(dim=-1)
    return torch.where(bias == 0, 1.0, variance / (variance + bias))


def matched_smoothing(log_probs: Iterable[Float[Tensor, "batch pos vocab"]], distance: float) -> float:
    """The label smoothing s whose targets have the mean KL(p ‖ (1 - s)·p + s/vocab) = `distance`, nats.

    `log_probs` are p in chunks, and walked again and again. That KL grows with s from 0 to ln(vocab) - H(p), the
    chance level. Raises `MechdistillError` for a distance out of reach, or so small that its placebo would be standard
    training.
    """
    from scipy.optimize import root_scalar  # here, since a training worker seldom needs it

    def lost(chunk: Float[Tensor, "batch pos vocab"], smoothing: float) -> Float[Tensor, "batch pos"]:
        exact = chunk.double()
        return forward_kl(exact, mixed(exact, uniform_like(exact), torch.tensor(smoothing, dtype=exact.dtype)))

    def excess(smoothing: float) -> float:
        return float(torch.cat([lost(chunk, smoothing) for chunk in log_probs]).mean()) - distance

    if not 1e-6 <= distance <= excess(0.999) + distance:
        raise MechdistillError(
            f"label_smoothing: the targets to match are {distance:.3g} nats from the truth; must be between 1e-6 and "
            f"{excess(0.999) + distance:.3g}, what smoothing can reach; match another arm"
        )
    return float(root_scalar(excess, bracket=(0.0, 0.999), xtol=1e-9).root)
