"""The options of a transformer as tests walk them: the whole grid, and a few combinations that cover it."""

import itertools
from typing import Any

MLPS: list[dict[str, Any]] = [
    {"attn_only": True},
    {"attn_only": False, "act": "gelu"},
    {"attn_only": False, "act": "relu", "d_mlp": 24},
    {"attn_only": False, "act": "swiglu"},
]

# every option on and off, with every kind of norm and position
COVER: list[dict[str, Any]] = [
    {"attn_only": True},
    {"attn_only": True, "positions": "rotary", "norm": "rmsnorm", "n_heads": 4, "n_kv_heads": 2, "biases": True},
    {"attn_only": False, "positions": "rotary", "norm": "none", "biases": True},
    {"attn_only": False, "act": "relu", "norm": "rmsnorm", "d_head": 5, "tied": True},
    {"attn_only": False, "act": "swiglu", "norm": "rmsnorm", "positions": "rotary", "n_kv_heads": 1, "tied": True},
    {"attn_only": False, "act": "swiglu", "norm": "layernorm", "biases": True, "n_heads": 4, "n_kv_heads": 1},
]


def grid() -> list[dict[str, Any]]:
    """Every combination of the options that are no sizes, except the MLP's."""
    axes: dict[str, list[Any]] = {
        "norm": ["layernorm", "rmsnorm", "none"],
        "positions": ["learned", "rotary"],
        "n_kv_heads": [None, 2, 1],
        "tied": [False, True],
        "biases": [False, True],
    }
    return [{"n_heads": 4, **dict(zip(axes, row, strict=True))} for row in itertools.product(*axes.values())]


def label(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
