"""What a model takes for tokens: sequences of whole numbers, one or a batch, as tensors, arrays or lists."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mechdistill.errors import MechdistillError, quoted


def token_batch(tokens: Any, vocab: int, device: torch.device, *, check: bool = True) -> Tensor:
    """Tokens as [batch, pos] on a device; one sequence becomes a batch of one, as in TransformerLens.

    Raises `MechdistillError` for what is no such batch and, if it is to `check` that too, for a token outside the
    vocabulary, which it names.
    """
    if not (isinstance(tokens, Tensor) and tokens.dtype in (torch.long, torch.int32)):
        tokens = whole_tokens(tokens)
    if tokens.ndim not in (1, 2) or tokens.numel() == 0:
        raise MechdistillError(
            f"tokens of shape {list(tokens.shape)}: must be [batch, pos], or [pos] of one sequence, and not empty"
        )
    tokens = tokens.to(device)
    if check:
        low, high = (int(bound) for bound in tokens.aminmax())
        if low < 0 or high >= vocab:
            raise MechdistillError(f"token {low if low < 0 else high}: must be between 0 and vocab - 1 = {vocab - 1}")
    return tokens if tokens.ndim == 2 else tokens[None]


def whole_tokens(tokens: Any) -> Tensor:
    """Whole numbers of any kind as a tensor of longs of the same shape; raises `MechdistillError` for anything else."""
    if isinstance(tokens, Tensor | np.ndarray):
        if not _is_whole(tokens):
            raise MechdistillError(f"tokens of {tokens.dtype}: must be whole numbers")
        return torch.as_tensor(tokens).long()
    if not isinstance(tokens, list | tuple | range):
        raise MechdistillError(f"tokens {quoted(tokens)}: must be a list or a tensor of whole numbers")
    try:
        return torch.tensor(_plain(tokens), dtype=torch.long)
    except (ValueError, RuntimeError):  # ragged, or what no long holds
        raise MechdistillError(f"tokens {quoted(tokens)}: every sequence must have the same length") from None


def _is_whole(tokens: Any) -> bool:
    if isinstance(tokens, Tensor):
        return not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    return tokens.dtype.kind in "iu"


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(part) for part in value]
    if isinstance(value, bool) or not isinstance(value, int):
        raise MechdistillError(f"token {quoted(value)}: must be a whole number")
    return value
