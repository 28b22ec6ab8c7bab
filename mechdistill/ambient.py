"""The calling session's settings put aside: whatever it has set, we compute the same bits.

torch and numpy keep settings for a whole process or thread that change results without a word (default dtype, autocast,
precision of matrix products, number of threads, ...). What trains, opens or measures does so inside `neutral`, so that
a notebook, a process of `jobs=2` and the command line agree; what the session had set is back afterwards.
"""

import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import backends

_DEVICES = ("cpu", "cuda", "mps")


class _Setting(NamedTuple):
    get: Callable[[], Any]
    set: Callable[[Any], Any]
    neutral: Any


def _precision(products: Any) -> _Setting:
    """Of float32 products, whichever way it was set; "none" is what nobody has set, and exact."""

    def get() -> str:
        return "ieee" if products.fp32_precision == "none" else products.fp32_precision

    return _Setting(get, lambda value: setattr(products, "fp32_precision", value), "ieee")


def _autocast(device: str) -> _Setting:
    return _Setting(
        lambda: torch.is_autocast_enabled(device), lambda value: torch.set_autocast_enabled(device, value), False
    )


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _anomalies() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _flushes_denormals() -> bool:
    return not (torch.full((1,), 1e-40, dtype=torch.float32, device="cpu") * 1).any()  # torch has no getter


_SETTINGS = (
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(torch.get_num_threads, torch.set_num_threads, 1),
    *map(_autocast, _DEVICES),
    _precision(backends.mkldnn.matmul),  # type: ignore[attr-defined]
    _precision(backends.cuda.matmul),
    # which kernel computes attention, on the CPU too
    _Setting(backends.cuda.flash_sdp_enabled, backends.cuda.enable_flash_sdp, True),
    _Setting(backends.cuda.mem_efficient_sdp_enabled, backends.cuda.enable_mem_efficient_sdp, True),
    _Setting(backends.cuda.math_sdp_enabled, backends.cuda.enable_math_sdp, True),
    _Setting(backends.cuda.cudnn_sdp_enabled, backends.cuda.enable_cudnn_sdp, True),
    _Setting(
        lambda: backends.mkldnn.enabled,
        lambda value: setattr(backends.mkldnn, "enabled", value),
        True,
    ),
    _Setting(
        _deterministic,
        lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        (False, False),
    ),
    _Setting(_anomalies, lambda value: torch.set_anomaly_enabled(*value), (False, True)),
    _Setting(_flushes_denormals, torch.set_flush_denormal, False),
)


@contextmanager
def neutral() -> Generator[None]:
    """Compute inside as in a fresh process with one torch thread; also a decorator.

    Put aside and back: default dtype and device, number of threads, autocast, `no_grad` and inference mode, precision
    of float32 products, choice of attention kernels, oneDNN, deterministic algorithms, anomaly detection, flushing of
    denormals, and numpy's `seterr`. Random generators need not be: nothing here draws from the global ones.
    """
    with ExitStack() as inside:
        inside.enter_context(torch.inference_mode(False))
        inside.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # else the mode's own cost at every call of torch is saved
            inside.enter_context(torch.device("cpu"))
        inside.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        for setting in _SETTINGS:
            before = setting.get()
            if before != setting.neutral:
                inside.callback(setting.set, before)
                setting.set(setting.neutral)
        yield


@contextmanager
def patient() -> Generator[None]:
    """Let warnings be warnings inside, where the session has made errors of them: they shall end no run."""
    if all(action != "error" for action, *_ in warnings.filters):
        yield
        return
    with warnings.catch_warnings():
        filters: Any = warnings.filters
        filters[:] = [("default" if action == "error" else action, *which) for action, *which in filters]
        yield
