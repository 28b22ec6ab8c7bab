"""The norms, whose scale and normalised activations can be heard and edited, with TransformerLens's meaning.

    layernorm: (x - mean x) / scale * weight + bias,   scale = sqrt(mean (x - mean x)² + eps)
    rmsnorm:   x / scale * weight,                     scale = sqrt(mean x² + eps)

hook_scale is [batch, pos, 1], hook_normalized [batch, pos, d_model] before weight and bias. The fused kernel runs
unless somebody listens. Without a norm there are no such hooks, as in TransformerLens.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mechdistill.config import ModelConfig
from mechdistill.model._bridge_config import NORM_EPS
from mechdistill.model._hooked import HookPoint


class Norm(nn.Module):
    """layernorm or rmsnorm over the last dimension."""

    def __init__(self, d_model: int, *, centred: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if centred else None
        self.centred = centred
        self.hook_scale, self.hook_normalized = HookPoint(), HookPoint()

    def forward(self, x: Tensor) -> Tensor:
        """x [..., d_model], normalised."""
        if not self._is_heard:
            return self._fused(x)
        spread, scale = self._parts(x)
        return self._out(self.hook_normalized(spread / self.hook_scale(scale)), x)

    def split(self, x: Tensor, inputs: Sequence[Tensor]) -> Iterator[Tensor]:
        """The norm of inputs [batch, pos, head, d_model] that are x [batch, pos, d_model], edited head by head.

        Each has statistics of its own. Hooks hear those of x, once; what they change of them is added to every head's.
        """
        if not self._is_heard:
            yield from map(self._fused, inputs)
            return
        spread, scale = self._parts(x)
        heard_scale = self.hook_scale(scale)
        normalized = spread / heard_scale
        heard = self.hook_normalized(normalized)
        for each in inputs:
            own_spread, own_scale = self._parts(each)
            own = own_spread / (own_scale + (heard_scale - scale)[:, :, None])
            yield self._out(own + (heard - normalized)[:, :, None], each)

    @property
    def _is_heard(self) -> bool:
        return self.hook_scale.has_hooks() or self.hook_normalized.has_hooks()

    def _fused(self, x: Tensor) -> Tensor:
        if self.centred:
            return F.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPS)
        return F.rms_norm(x, self.weight.shape, self.weight, NORM_EPS)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is divided by the scale, and the scale; in float32 at least, as the fused kernels compute."""
        spread = x if x.dtype == torch.float64 else x.float()
        if self.centred:
            spread = spread - spread.mean(-1, keepdim=True)
        return spread, (spread.pow(2).mean(-1, keepdim=True) + NORM_EPS).sqrt()

    def _out(self, normalized: Tensor, x: Tensor) -> Tensor:
        out = normalized * self.weight
        return (out if self.bias is None else out + self.bias).to(x.dtype)


class NoNorm(nn.Identity):
    """Where a model has no norms: everything as it is, and no hooks."""

    def split(self, x: Tensor, inputs: Sequence[Tensor]) -> Iterator[Tensor]:  # noqa: ARG002  (as of a norm)
        """The inputs as they are."""
        return iter(inputs)


def norm(config: ModelConfig) -> Norm | NoNorm:
    """The norm of a config."""
    return NoNorm() if config.norm == "none" else Norm(config.d_model, centred=config.norm == "layernorm")
