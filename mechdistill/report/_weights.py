"""A checkpoint as bytes that the page can run: matrices in 15 bits a number, vectors and every head's mean z whole.

A row of a matrix is whole numbers times a scale of its own. That takes as much room as half precision and is some five
times as exact, since it spends no bits on exponents: half precision moves single attention weights of a default model
by up to .0025, this by .0005. Bytes are shuffled, all high ones before all low ones, which compresses.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits import clean_outputs
from mechdistill.config import ModelConfig
from mechdistill.model import Model, Transformer
from mechdistill.positions import EvaluationSet

SEQUENCES = 128
"""Held-out sequences that the means are over."""
_Z_MEAN = "z_mean"
_MOST = 2**14 - 1  # of a row's whole numbers
_PACKED = 2 * 0.915 * 4 / 3  # bytes of a number in the page: compressed, in base64


def packed_bytes(numbers: int) -> int:
    """About how many bytes of the page so many parameters take."""
    return round(numbers * _PACKED)


@torch.no_grad()
def encoded(model: Model, data: EvaluationSet) -> bytes:
    """The matrices of `shape` in order, as shuffled int16; then, as float32, the scales of their rows and its vectors.

    All little-endian. A weight is off by at most its row's largest / 32766.
    """
    wholes: list[np.ndarray[Any, np.dtype[np.int16]]] = []
    floats: list[Tensor] = []
    for _, matrix in _matrices(model):
        rows = matrix.detach().cpu().float().reshape(-1, matrix.shape[-1])
        scale = rows.abs().amax(dim=1) / _MOST
        floats.append(scale)
        steps = rows / torch.where(scale > 0, scale, 1.0)[:, None]
        wholes.append(steps.round().clamp(-_MOST, _MOST).to(torch.int16).reshape(-1).numpy())
    floats += [vector.detach().cpu().float() for _, vector in _vectors(model)]
    if isinstance(model, Transformer):
        floats.append(z_means(model, data))
    pairs = np.concatenate(wholes).astype("<i2").view(np.uint8).reshape(-1, 2)
    return pairs[:, 1].tobytes() + pairs[:, 0].tobytes() + b"".join(x.numpy().astype("<f4").tobytes() for x in floats)


def shape(model: Model, config: ModelConfig) -> dict[str, Any]:
    """What the page has to know to run a model: its options, resolved, and the names and sizes of its parameters."""
    matrices = [[name, list(tensor.shape)] for name, tensor in _matrices(model)]
    vectors: list[list[Any]] = [[name, list(tensor.shape)] for name, tensor in _vectors(model)]
    known = {"kind": config.kind, "vocab": model.d_vocab, "n_ctx": model.n_ctx, "matrices": matrices}
    if not isinstance(model, Transformer):
        return {**known, "vectors": vectors, "n_layers": 0, "n_heads": 0}
    return {
        **known,
        "vectors": [*vectors, [_Z_MEAN, [config.n_layers, config.n_heads, config.head_width]]],
        "n_layers": config.n_layers,
        "d_model": config.d_model,
        "n_heads": config.n_heads,
        "n_kv_heads": config.kv_heads,
        "d_head": config.head_width,
        "d_mlp": config.mlp_width,
        "act": config.act,
        "norm": config.norm,
        "eps": model.cfg.eps,
        "rotary": config.positions == "rotary",
        "tied": config.tied,
    }


def _matrices(model: Model) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in model.named_parameters() if tensor.ndim > 1)


def _vectors(model: Model) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor in model.named_parameters() if tensor.ndim < 2)


def z_means(model: Transformer, data: EvaluationSet) -> Float[Tensor, "layer head d_head"]:
    """Mean of every head's z over sequences and positions: what mean ablation puts in its place."""
    total = torch.zeros(model.config.n_layers, model.config.n_heads, model.config.head_width, dtype=torch.float64)
    for _, part in data.chunks():
        total += torch.stack([z.double().sum(dim=(0, 1)).cpu() for z in clean_outputs(model, part)])
    return (total / data.tokens.numel()).float()
