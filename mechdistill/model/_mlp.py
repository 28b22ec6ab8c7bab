"""The MLP, plain or gated.

gelu, relu:  act(x W_in + b_in) W_out + b_out
swiglu:      (silu(x W_gate) * (x W_in + b_in)) W_out + b_out     (Shazeer 2020)
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mechdistill.config import ModelConfig
from mechdistill.model._hooked import HookPoint


class MLP(nn.Module):
    """One hidden layer; hook_pre is what goes through the activation, hook_pre_linear what a gate multiplies."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.W_in = nn.Parameter(torch.empty(config.d_model, config.mlp_width))
        self.W_out = nn.Parameter(torch.empty(config.mlp_width, config.d_model))
        self.b_in = nn.Parameter(torch.zeros(config.mlp_width)) if config.biases else None
        self.b_out = nn.Parameter(torch.zeros(config.d_model)) if config.biases else None
        self.act = {"gelu": F.gelu, "relu": F.relu, "swiglu": F.silu}[config.act]
        self.hook_pre, self.hook_post = HookPoint(), HookPoint()  # [batch, pos, d_mlp]
        self.W_gate: nn.Parameter | None = None
        if config.act == "swiglu":
            self.W_gate = nn.Parameter(torch.empty(config.d_model, config.mlp_width))
            self.hook_pre_linear = HookPoint()  # [batch, pos, d_mlp]

    def forward(self, x: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        pre = x @ self.W_in
        if self.b_in is not None:
            pre = pre + self.b_in
        if self.W_gate is None:
            post = self.act(self.hook_pre(pre))
        else:
            post = self.act(self.hook_pre(x @ self.W_gate)) * self.hook_pre_linear(pre)
        out = self.hook_post(post) @ self.W_out
        return out if self.b_out is None else out + self.b_out
