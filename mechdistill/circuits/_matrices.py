"""What a head matches and what it moves, token by token: its full QK and OV circuits, by weights alone."""

from jaxtyping import Float
from torch import Tensor

from mechdistill.circuits._heads import Head
from mechdistill.circuits._view import HeadView
from mechdistill.errors import MechdistillError


def qk_matrix(view: HeadView, head: Head, through: Head | None = None) -> Float[Tensor, "query source"]:
    """W_E W_Q W_Kᵀ W_Eᵀ / √d_head of a head, less each query's mean over sources: which tokens it matches with which.

    With `through`, an earlier head, keys read what that head has moved there, W_E W_V W_O in the place of the sources'
    W_E: of an induction head through a previous-token head, [t, u] is how strongly a query t looks for a position that
    comes after u, and its diagonal stands out. Attention logits, but for factors above 0, the scales of the norms on
    the way, which hang on the position: norms are folded in by weight and centring. Any sign; chance 0, the mean of
    each row. Biases and positions are left out. Raises `MechdistillError` for a head that is not there, for a `through`
    that is not in an earlier layer, and with rotary positions, which turn what is matched. Source: Elhage et al. 2021.
    """
    _check(view, head)
    require_fixed_matching(view)
    norm, embedding = view.norm(head.layer), view.W_E.double()
    sources = embedding if through is None else _moved(view, through, head)
    queries = embedding @ norm.read(view.W_Q[head].double())
    keys = sources @ norm.read(view.W_K[head].double())
    return _beyond_mean(queries @ keys.T / queries.shape[1] ** 0.5)


def ov_matrix(view: HeadView, head: Head) -> Float[Tensor, "source next"]:
    """W_E W_V W_O W_U of a head, less each source's mean over next tokens: which logits it raises where it looks.

    A head that copies has its diagonal stand out. Logits, but for factors above 0, as in `qk_matrix`, which says what
    is folded in, left out and raised too; only rotary positions change nothing here. Any sign; chance 0. Source:
    Elhage et al. 2021.
    """
    _check(view, head)
    written = view.W_E.double() @ view.norm(head.layer).read(view.W_V[head].double()) @ view.W_O[head].double()
    return _beyond_mean(written @ view.norm(None).read(view.W_U.double()))


def require_fixed_matching(view: HeadView) -> None:
    """Raise `MechdistillError` where positions are rotary, so that no matrix says what matches."""
    if view.rotary:
        raise MechdistillError("model.positions=rotary: what matches hangs on the distance too; look at patterns")


def _moved(view: HeadView, through: Head, reader: Head) -> Float[Tensor, "vocab d_model"]:
    """What a head writes where it looks at each token."""
    _check(view, through)
    if through.layer >= reader.layer:
        raise MechdistillError(f"through={through}: must be in a layer before that of {reader}")
    return view.W_E.double() @ view.norm(through.layer).read(view.W_V[through].double()) @ view.W_O[through].double()


def _check(view: HeadView, head: Head) -> None:
    if not (0 <= head.layer < view.n_layers and 0 <= head.head < view.n_heads):
        last = Head(view.n_layers - 1, view.n_heads - 1)
        raise MechdistillError(f"head {head}: the model has L0H0 to {last}; choose one of these")


def _beyond_mean(matrix: Tensor) -> Tensor:
    return matrix - matrix.mean(dim=1, keepdim=True)
