"""Whether what a head moves raises the logit of the token that it is moved from, by weights alone."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits._probes import Probes
from mechdistill.circuits._view import HeadView
from mechdistill.circuits.scores._score import Scored, head_score

_DRAWS = 32


@head_score(label="copying, by eigenvalues", low=-1.0, chance="0: matrices of random signs")
def copying(view: HeadView, probes: Probes) -> Scored:
    """Σ Re λ / Σ |λ| over the eigenvalues of W_E W_V W_O W_U, norms folded in: 1 copies, -1 makes unlikely.

    The nonzero eigenvalues are those of the d_head × d_head product W_O W_U W_E W_V. Range [-1, 1]; chance 0. Null:
    32 draws of Gaussian W_V and W_O, one null for all heads of a layer. Undefined of a head of zeros. Source: Elhage et
    al. 2021.
    """
    del probes
    final, d_head = view.norm(None), view.W_V.shape[-1]
    through = final.read(view.W_U.double()) @ view.W_E.double()  # d_model × d_model; from a write to a read
    reads = torch.stack([view.norm(layer).read(one.double()) for layer, one in enumerate(view.W_V)])
    value = _copied(view.W_O.double() @ through @ reads)
    generator = torch.Generator().manual_seed(0)  # the same for every model, like a table of a distribution
    shape = (_DRAWS, view.d_model, d_head)
    drawn_v, drawn_o = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    drawn = drawn_o.transpose(1, 2) @ through
    null = [_copied(drawn @ view.norm(layer).read(drawn_v)) for layer in range(view.n_layers)]
    return Scored(value.float(), 0.0, torch.stack(null)[:, :, None].expand(-1, -1, view.n_heads).float())


def _copied(products: Float[Tensor, "*heads d_head d_head"]) -> Float[Tensor, "*heads"]:
    finite = products.isfinite().all(dim=-1).all(dim=-1)
    # numpy's: torch's gives up on matrices with many equal eigenvalues, as hand-built ones have
    found = torch.from_numpy(np.linalg.eigvals(torch.where(finite[..., None, None], products, 0.0).numpy()))
    size = found.abs().sum(dim=-1)
    return torch.where(finite, found.real.sum(dim=-1) / size, torch.nan)


@head_score(label="copying, by logits", low=-1.0, chance="0: logits of random signs")
def copying_logits(view: HeadView, probes: Probes) -> Scored:
    """2 u_tt / Σ_v |u_tv|, mean over tokens t of a block of random tokens: the token's share of what the head raises.

    u_tv = norm(W_E[t]) W_V W_O W_U[:, v], norms folded in, for the tokens v of the same block, less its mean over them:
    1 where only token t itself is raised, -1 where only it is lowered. Range [-1, 1]; chance 0. Null: the share of the
    next token of the block, which is a random one. Undefined of a head of zeros. Source: Olsson et al. 2022, whose
    random sequences are replaced by our blocks and whose ratio is scaled so that both signs count alike.
    """
    probe = probes.repeated
    tokens = probe.tokens[:, 1 : probe.length + 1]
    reads_out = view.norm(None).read(view.W_U)
    seen = reads_out.T[tokens]  # [sequence, v, d_model]
    values: list[Tensor] = []
    nulls: list[Tensor] = []
    for layer in range(view.n_layers):
        moved = torch.einsum("btm,hmd->bhtd", view.norm(layer)(view.W_E)[tokens], view.W_V[layer])
        u = torch.einsum("bhtd,hdm,bvm->bhtv", moved, view.W_O[layer], seen)
        u = u - u.mean(dim=-1, keepdim=True)
        share = 2 * u / u.abs().sum(dim=-1, keepdim=True)
        values.append(share.diagonal(dim1=-2, dim2=-1).mean(dim=-1))
        nulls.append(share.roll(-1, dims=-1).diagonal(dim1=-2, dim2=-1).mean(dim=-1))
    return Scored(torch.stack(values).mean(dim=1), 0.0, torch.stack(nulls))
