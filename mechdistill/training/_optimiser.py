"""AdamW and its learning-rate schedule."""

import math

import torch
from torch import nn

from mechdistill.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps: int, branched: int | None = None) -> float:
    """Rate of the update that step `step` (from 0) of `steps` makes.

    Linear warm-up, then: cosine to zero; constant; or, for the branch that left its trunk at step `branched`, a line
    to zero at the end (a trunk itself is constant).
    """
    rate = config.lr * min((step + 1) / config.warmup, 1.0) if config.warmup else config.lr
    if config.schedule == "cosine":
        done = max(step - config.warmup, 0) / max(steps - config.warmup, 1)
        return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return rate if branched is None else rate * (steps - step) / (steps - branched)


def optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices, not on the vectors of norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
