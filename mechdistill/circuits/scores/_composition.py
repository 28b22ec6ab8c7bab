"""How much of what a head reads is what an earlier head wrote, by weights alone.

In row convention, x W: head h reads x W_QK xᵀ and moves x W_OV, with W_QK = W_Q W_Kᵀ and W_OV = W_V W_O. Norms are
folded in: weights into what reads, and for LayerNorm, which no mean passes, centring into what reads and what writes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits._probes import Probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._score import UNDEFINED, Scored, head_score

_CHANCE = "1/√d_model (1/√(d_model - 1) under LayerNorm), random matrices"
Left = Float[Tensor, "layer head d_model d_head"]
Right = Float[Tensor, "layer head d_head d_model"]


class _Product(NamedTuple):
    """A d_model × d_model matrix of every head as left @ right."""

    left: Left
    right: Right


def _ov(view: HeadView) -> _Product:
    return _Product(_read(view, view.W_V), view.norm(0).write(view.W_O.double()))


def _qk(view: HeadView) -> _Product:
    return _Product(_read(view, view.W_Q), _read(view, view.W_K).transpose(2, 3))


def _read(view: HeadView, matrices: Tensor) -> Tensor:
    return torch.stack([view.norm(layer).read(one.double()) for layer, one in enumerate(matrices)])


def _composed(view: HeadView, later: _Product) -> Scored:
    """‖A B‖ / (‖A‖ ‖B‖) of each earlier head's A = W_OV and each later head's B.

    Frobenius norms are those of the triangular factors of left and right, so that nothing is larger than d_head².
    """
    earlier = _ov(view)
    a_left, b_right = _triangle(earlier.left), _triangle(later.right.transpose(2, 3))
    a_norm = (a_left @ earlier.right).flatten(2).norm(dim=2)
    b_norm = (later.left @ b_right.transpose(2, 3)).flatten(2).norm(dim=2)
    value = torch.full((view.n_layers, view.n_heads) * 2, torch.nan, dtype=torch.float64)
    for layer in range(1, view.n_layers):
        between = torch.einsum("lgkm,hmn->hlgkn", earlier.right[:layer], later.left[layer])
        whole = torch.einsum("lgjk,hlgkn,hin->hlgji", a_left[:layer], between, b_right[layer])
        value[layer, :, :layer] = whole.flatten(3).norm(dim=3) / a_norm[:layer] / b_norm[layer][:, None, None]
    d = view.d_model - int(view.norm(0).centred)
    return Scored(value.float(), d**-0.5)


def _triangle(matrices: Float[Tensor, "layer head d_model d_head"]) -> Float[Tensor, "layer head rank d_head"]:
    return torch.linalg.qr(matrices, mode="r").R


@head_score(label="Q-composition", chance=_CHANCE)
def q_composition(view: HeadView, probes: Probes) -> Scored:
    """‖W_OV W_QK‖ / (‖W_OV‖ ‖W_QK‖), of every earlier head's OV and every later head's QK: what its queries read.

    Frobenius norms, norms of the network folded in. Range [0, 1]; chance 1/√d_model, the root mean square of random
    matrices of any norm and rank (one dimension fewer under LayerNorm): a pair composes where it is well above that.
    Null: that baseline, and the untrained twin. Undefined with rotary positions, and of a head of zeros. Source:
    Elhage et al. 2021.
    """
    del probes
    return UNDEFINED if view.rotary else _composed(view, _qk(view))


@head_score(label="K-composition", chance=_CHANCE)
def k_composition(view: HeadView, probes: Probes) -> Scored:
    """‖W_OV W_QKᵀ‖ / (‖W_OV‖ ‖W_QK‖), of every earlier head's OV and every later head's QK: what its keys read.

    An induction head reads in its keys what a previous-token head wrote. Range [0, 1]; chance, as of q-composition,
    1/√d_model of random matrices. Null: that baseline, and the untrained twin. Undefined with rotary positions, and of
    a head of zeros. Source: Elhage et al. 2021.
    """
    del probes
    if view.rotary:
        return UNDEFINED
    qk = _qk(view)
    return _composed(view, _Product(qk.right.transpose(2, 3), qk.left.transpose(2, 3)))


@head_score(label="V-composition", chance=_CHANCE)
def v_composition(view: HeadView, probes: Probes) -> Scored:
    """‖W_OV W_OV'‖ / (‖W_OV‖ ‖W_OV'‖), of every earlier head and every later one: what its values read.

    Range [0, 1]; chance, as of q-composition, 1/√d_model of random matrices. Null: that baseline, and the
    untrained twin. Undefined of a head of zeros.
    Source: Elhage et al. 2021.
    """
    del probes
    return _composed(view, _ov(view))
