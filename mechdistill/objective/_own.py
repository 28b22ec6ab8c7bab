"""Divergences and signals by name, and a user's own among them: what they must be and give."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.config import DivergenceConfig, FlooredDivergence, Kind, KindConfig, Signal, kind_of_function
from mechdistill.errors import MechdistillError
from mechdistill.registry import Registry
from mechdistill.tables import resolve


def own_divergence(
    function: Callable[..., Any], name: str, formula: str, needs_support: bool
) -> Kind[DivergenceConfig]:
    """A user's function as a kind of divergence; raises `MechdistillError` for one that takes something else."""
    base = FlooredDivergence if needs_support else DivergenceConfig
    takes = [("teacher_log_probs", "student_log_probs")]
    config = kind_of_function(base, name, function, f"divergence '{name}'", takes)
    config.formula = formula
    return Kind(config, function)


def own_signal(function: Callable[..., Any], name: str, **about: bool) -> Signal:
    """A user's function as a routing signal; raises `MechdistillError` for one that takes something else."""
    config = kind_of_function(KindConfig, name, function, f"routing signal '{name}'", [("seen",)])
    settings = ", ".join(set(config.model_fields) - set(KindConfig.model_fields))
    if settings:
        raise MechdistillError(f"routing signal '{name}': takes the setting {settings}; must take `seen` alone")
    return Signal(name, function, **about)


def values_by_position(
    registry: Registry[Any], name: str, like: Float[Tensor, "batch pos"], *arguments: Any, **settings: Any
) -> Float[Tensor, "batch pos"]:
    """What an entry's function gives. Raises `MechdistillError` if a user's gives no such values as `like`."""
    found: Any = resolve(registry[name].implementation)(*arguments, **settings)
    if registry.origin(name) is None:
        return found
    who = f"{registry.kind} '{name}'"
    if not isinstance(found, Tensor) or found.shape != like.shape or not found.dtype.is_floating_point:
        told = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise MechdistillError(f"{who}: gave {told}; must be a number a position: float {list(like.shape)}")
    if found.isnan().any():
        raise MechdistillError(f"{who}: gave nan; must be a number at every position (0 * -inf is nan: use where)")
    learns = any(isinstance(argument, Tensor) and argument.requires_grad for argument in arguments)
    if learns and torch.is_grad_enabled() and not found.requires_grad:
        raise MechdistillError(f"{who}: gave values without a gradient; compute them from the student's tensor itself")
    return found
