"""Networks with known circuits, weight by weight: each is `helpers.induction_network` with one thing changed.

All have two layers of two heads without MLPs. L0H0 attends to the previous position and copies its token beside the
current one; L1H0 is what differs. Heads that are not named are zero: they attend uniformly and write nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mechdistill.model import Transformer
from tests.helpers import induction_network


def _parts(model: Transformer, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of W_Q, W_K, W_V [head, d_head, d_model] and W_O [head, d_head, d_model]."""
    attn = model.blocks[layer].attn
    q, k, v = (part.view(2, -1, part.shape[-1]) for part in attn.W_QKV.chunk(3))
    return q, k, v, attn.W_O.view(2, -1, q.shape[-1])


@torch.no_grad()
def previous_token_network(vocab: int, n_ctx: int, **changes: Any) -> Transformer:
    """Only L0H0 does anything: the first half of an induction circuit, without the second."""
    model = induction_network(vocab, n_ctx, **changes)
    for part in _parts(model, 1):
        part.zero_()
    return model


@torch.no_grad()
def anti_induction_network(vocab: int, n_ctx: int, **changes: Any) -> Transformer:
    """L1H0 looks where an induction head looks and writes the opposite: what came last time is made unlikely."""
    model = induction_network(vocab, n_ctx, **changes)
    _parts(model, 1)[3].neg_()
    return model


@torch.no_grad()
def redundant_network(vocab: int, n_ctx: int, *, gain: float = 10.0, **changes: Any) -> Transformer:
    """L1H0 and L1H1 are the same induction head, either of which is enough: logits are `gain` times as sharp."""
    model = induction_network(vocab, n_ctx, **changes)
    for part in _parts(model, 1):
        part[1] = part[0]
    model.W_U *= gain
    return model


@torch.no_grad()
def trigger_gated_network(vocab: int, n_ctx: int, triggers: Sequence[int], **changes: Any) -> Transformer:
    """L1H0 is an induction head at `triggers` and attends uniformly from every other token.

    Exactly so without norms, which is how it is made: LayerNorm would let every token through a little.
    """
    model = induction_network(vocab, n_ctx, **{"norm": "none", **changes})
    q, _, _, w_o = _parts(model, 1)
    others = torch.ones(vocab, dtype=torch.bool)
    others[list(triggers)] = False
    q[0, :vocab][others] = 0.0
    w_o *= 2.0  # so that what is copied is likelier than the token itself
    return model
