"""AdamW and its learning-rate schedule."""

import math

import torch
from torch import nn

from mechdistill.config import TrainingConfig


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """Rate of the update that step `step` (from 0) makes: linear warm-up, then cosine to zero or constant."""
    rate = config.lr * min((step + 1) / config.warmup, 1.0) if config.warmup else config.lr
    if config.schedule == "constant":
        return rate
    done = max(step - config.warmup, 0) / max(steps - config.warmup, 1)
    return rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def optimiser(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """Fused AdamW; weight decay on matrices, not on the vectors of norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
