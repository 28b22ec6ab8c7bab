"""QK and OV matrices: against the network itself, fed one token at a time, and networks whose matching is known."""

import pytest
import torch
from torch import Tensor

from mechdistill.circuits import Head, HeadView, ov_matrix, qk_matrix
from mechdistill.errors import MechdistillError
from mechdistill.model import Transformer
from tests.helpers import induction_network, transformer
from tests.networks import anti_induction_network, trigger_gated_network

VOCAB = 12
PREVIOUS, LOOKUP = Head(0, 0), Head(1, 0)
NORMS = ("layernorm", "rmsnorm", "none")


def _model(norm: str) -> Transformer:
    model = transformer(d_vocab=VOCAB, norm=norm, n_heads=4, n_kv_heads=2).double()
    for name, parameter in model.named_parameters():
        if "ln" in name and "bias" in name:
            parameter.zero_()  # what a bias adds is no product of two tokens
    return model


def _scale(x: Tensor, norm: str) -> Tensor:
    """What the norm divides by."""
    if norm == "none":
        return torch.ones_like(x[:, 0])
    return (x.var(dim=1, correction=0) + 1e-5 if norm == "layernorm" else x.square().mean(dim=1) + 1e-5).sqrt()


def _centred(matrix: Tensor) -> Tensor:
    return matrix - matrix.mean(dim=1, keepdim=True)


def _written(model: Transformer, head: Head, norm: str) -> Tensor:
    """What a head writes of each token, as its first position, which attends to itself alone; the norm undone."""
    heard: list[Tensor] = []
    at = f"blocks.{head.layer}"

    def only_the_token(x: Tensor, hook: object) -> Tensor:
        x[:, 0] = model.W_E[:, None]
        return x

    def hear(result: Tensor, hook: object) -> None:
        heard.append(result[:, 0, head.head])

    hooks = [(f"{at}.hook_v_input", only_the_token), (f"{at}.attn.hook_result", hear)]
    model.run_with_hooks(torch.arange(VOCAB)[:, None], fwd_hooks=hooks)
    return heard[0] * _scale(model.W_E, norm)[:, None]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("through", [None, Head(0, 3)])
def test_qk_is_what_the_network_scores_for_each_pair_of_tokens(norm: str, through: Head | None) -> None:
    model, head = _model(norm), Head(1, 2)
    sources = model.W_E if through is None else _written(model, through, norm)
    pairs = torch.cartesian_prod(torch.arange(VOCAB), torch.arange(VOCAB))
    scores: list[Tensor] = []
    reads = {"q": model.W_E[pairs[:, 0]], "k": sources[pairs[:, 1]]}

    def read(x: Tensor, hook: object) -> Tensor:
        x[:, 0] = reads[hook.name[-7]][:, None]  # pyright: ignore[reportAttributeAccessIssue]
        return x

    def hear(found: Tensor, hook: object) -> None:
        scores.append(found[:, head.head, 0, 0])

    hooks = [("blocks.1.hook_q_input", read), ("blocks.1.hook_k_input", read), ("blocks.1.attn.hook_attn_scores", hear)]
    model.run_with_hooks(torch.zeros(len(pairs), 1, dtype=torch.long), fwd_hooks=hooks)
    expected = scores[0] * _scale(reads["q"], norm) * _scale(reads["k"], norm)
    found = qk_matrix(HeadView(model), head, through)
    torch.testing.assert_close(found, _centred(expected.view(VOCAB, VOCAB)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_ov_is_what_the_network_says_where_the_head_looks_at_a_token(norm: str) -> None:
    model, head = _model(norm), Head(1, 3)
    written = _written(model, head, norm)
    hooks = [("blocks.1.hook_resid_post", lambda x, hook: written[:, None])]
    logits = model.run_with_hooks(torch.arange(VOCAB)[:, None], fwd_hooks=hooks)[:, 0]
    expected = _centred(logits * _scale(written, norm)[:, None])
    torch.testing.assert_close(ov_matrix(HeadView(model), head), expected, rtol=1e-9, atol=1e-9)


def _is_largest(matrix: Tensor) -> Tensor:
    """Of each row, whether the diagonal alone is largest."""
    others = matrix.clone().fill_diagonal_(-torch.inf).amax(dim=1)
    return matrix.diagonal() > others + 1e-6


@pytest.mark.parametrize("norm", ["layernorm", "none"])
def test_an_induction_head_matches_through_the_previous_token_head_alone_and_copies(norm: str) -> None:
    view = HeadView(induction_network(VOCAB, 16, norm=norm))
    assert _is_largest(qk_matrix(view, LOOKUP, PREVIOUS)).all()
    assert _is_largest(ov_matrix(view, LOOKUP)).all()
    for other in (qk_matrix(view, LOOKUP), qk_matrix(view, LOOKUP, Head(0, 1)), ov_matrix(view, Head(1, 1))):
        assert other.abs().max() < 1e-6 * 400 + (norm == "layernorm") * 400  # its sharpness; centring couples all
        assert not _is_largest(other).any()


def test_one_that_is_gated_matches_triggers_alone_and_one_that_denies_copies_backwards() -> None:
    triggers = [2, 7]
    matched = qk_matrix(HeadView(trigger_gated_network(VOCAB, 16, triggers)), LOOKUP, PREVIOUS)
    assert _is_largest(matched).nonzero()[:, 0].tolist() == triggers
    assert matched.abs().amax(dim=1).gt(1e-6).nonzero()[:, 0].tolist() == triggers
    assert _is_largest(-ov_matrix(HeadView(anti_induction_network(VOCAB, 16)), LOOKUP)).all()


def test_what_is_not_there_or_has_no_such_matrix_is_refused() -> None:
    view = HeadView(_model("none"))
    with pytest.raises(MechdistillError, match=r"head L1H9: the model has L0H0 to L1H3; choose"):
        qk_matrix(view, Head(1, 9))
    with pytest.raises(MechdistillError, match=r"head L2H0: the model has"):
        ov_matrix(view, Head(2, 0))
    with pytest.raises(MechdistillError, match=r"through=L1H0: must be in a layer before that of L1H1"):
        qk_matrix(view, Head(1, 1), Head(1, 0))
    rotary = HeadView(transformer(d_vocab=VOCAB, positions="rotary"))
    with pytest.raises(MechdistillError, match=r"model.positions=rotary: what matches hangs on the distance"):
        qk_matrix(rotary, LOOKUP)
    assert ov_matrix(rotary, LOOKUP).shape == (VOCAB, VOCAB)
