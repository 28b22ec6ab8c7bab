"""Hook points with the traps of TransformerLens's own closed.

Ours differ from HookPoint and HookedRootModule in four ways. Every hook works on its own copy, so an edit in place
changes the forward pass but neither the cache nor a tensor of the caller's. What a hook gives back must have the shape,
dtype and device of what it got, or it would be broadcast. A name or a filter that matches no hook point raises instead
of being ignored. And hooks that a context manager adds go with it, whatever it raises.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor
from transformer_lens import ActivationCache, HookedRootModule
from transformer_lens.hook_points import HookPoint as _TransformerLensHookPoint
from transformer_lens.hook_points import LensHandle

from mechdistill.errors import MechdistillError, did_you_mean

Hook = Callable[..., Tensor | None]
NamesFilter = str | Sequence[str] | Callable[[str], bool] | None


class HookPoint(_TransformerLensHookPoint):
    """The identity, where hooks attach: hook(tensor, hook=self) may return a new tensor or edit its own in place."""

    def add_hook(
        self,
        hook: Hook,
        dir: Literal["fwd", "bwd"] = "fwd",
        is_permanent: bool = False,
        level: int | None = None,
        prepend: bool = False,
        alias_names: list[str] | None = None,
    ) -> LensHandle:
        """As in TransformerLens, but a forward hook gets a copy that no one else holds."""
        registered: Any = _on_a_copy(hook) if dir == "fwd" else _on_a_gradient(hook)
        return super().add_hook(registered, dir, is_permanent, level, prepend, alias_names)


def _on_a_copy(user_hook: Hook) -> Hook:
    @functools.wraps(user_hook)
    def safe(tensor: Tensor, hook: Any) -> Tensor:
        copy = tensor.clone()
        result = user_hook(copy, hook=hook)
        return _like(tensor, copy if result is None else result, hook)

    return safe


def _on_a_gradient(user_hook: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(user_hook)
    def safe(gradient: Tensor, hook: Any) -> Any:
        result = user_hook(gradient, hook=hook)
        if result is not None:
            _like(gradient, result[0] if isinstance(result, tuple) and len(result) == 1 else result, hook)
        return result

    return safe


def _like(before: Tensor, after: Any, hook: Any) -> Tensor:
    """What a hook gave back; raises `MechdistillError` where it does not fit into the place of what the hook got."""
    if not isinstance(after, Tensor):
        raise MechdistillError(f"hook at {hook.name}: returned {type(after).__name__}; must be a tensor or None")
    for what in ("shape", "dtype", "device", "layout"):
        was, now = getattr(before, what), getattr(after, what)
        if was != now:
            was, now = (list(one) if what == "shape" else one for one in (was, now))
            raise MechdistillError(f"hook at {hook.name}: returned {what} {now}; must be {was}, as it got")
    return after


class HookedModel(HookedRootModule):
    """A module whose HookPoints answer run_with_hooks, run_with_cache and add_hook, and refuse unknown names."""

    def _checked(self, name: str | Callable[[str], bool]) -> str | Callable[[str], bool]:
        if isinstance(name, str):
            if name not in self.hook_dict:
                raise MechdistillError(f"hook '{name}': no such hook point; {did_you_mean(name, self.hook_dict)}")
        elif not any(name(known) for known in self.hook_dict):
            raise MechdistillError(
                f"hook filter {getattr(name, '__name__', name)!r}: matches none of the "
                f"{len(self.hook_dict)} hook points; list them with model.hook_dict"
            )
        return name

    def add_hook(
        self,
        name: str | Callable[[str], bool],
        hook: Hook,
        dir: Literal["fwd", "bwd"] = "fwd",
        is_permanent: bool = False,
        level: int | None = None,
        prepend: bool = False,
    ) -> None:
        """Attach a hook until reset_hooks(); raises `MechdistillError` if nothing is called `name`."""
        super().add_hook(self._checked(name), hook, dir, is_permanent, level, prepend)

    def _enable_hook(self, name: str | Callable[[str], bool], hook: Hook, dir: Literal["fwd", "bwd"]) -> None:
        super()._enable_hook(self._checked(name), hook, dir)

    def run_with_cache(
        self, *args: Any, return_cache_object: bool = True, remove_batch_dim: bool = False, **kwargs: Any
    ) -> tuple[Any, Any]:
        """The output and every activation asked for: an `ActivationCache` (`cache["pattern", 0]`), or a dict."""
        output, cache = super().run_with_cache(*args, remove_batch_dim=remove_batch_dim, **kwargs)
        if return_cache_object:
            cache = ActivationCache(cache, self, has_batch_dim=not remove_batch_dim)
        return output, cache

    def get_caching_hooks(self, names_filter: NamesFilter = None, *args: Any, **kwargs: Any) -> Any:
        """As in TransformerLens; every name of a list must exist, and a filter must match something."""
        return super().get_caching_hooks(self._checked_filter(names_filter), *args, **kwargs)

    def add_caching_hooks(self, names_filter: NamesFilter = None, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """As in TransformerLens; every name of a list must exist, and a filter must match something."""
        return super().add_caching_hooks(self._checked_filter(names_filter), *args, **kwargs)

    def _checked_filter(self, names_filter: NamesFilter) -> Any:
        if names_filter is None or isinstance(names_filter, str) or callable(names_filter):
            return names_filter if names_filter is None else self._checked(names_filter)
        return [self._checked(name) for name in names_filter]
