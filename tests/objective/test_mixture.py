import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.config import DIVERGENCES
from mechdistill.laws import cross_entropy, forward_kl, soften
from mechdistill.objective import Weights, mixture, per_term
from mechdistill.tables import resolve


def laws(seed: int, *shape: int, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).log_softmax(-1)


def weights(alpha: float, *shape: int) -> Weights:
    ones = torch.ones(*shape)
    return Weights((1 - alpha) * ones, alpha * ones, torch.zeros(*shape, dtype=torch.bool))


def test_alpha_zero_is_plain_cross_entropy() -> None:
    logits, labels = laws(6, 2, 3, 7).float().requires_grad_(), torch.randint(0, 7, (2, 3))
    losses = mixture(logits.log_softmax(-1), labels, None, weights(0.0, 2, 3))
    losses.total.backward()
    ours, logits.grad = logits.grad.clone(), None
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    torch.testing.assert_close(ours, logits.grad, rtol=1e-6, atol=1e-9)
    assert losses.divergence is None
    assert torch.equal(losses.total, losses.cross_entropy)
    assert torch.equal(losses.smoothed, losses.cross_entropy)


@given(st.floats(0.01, 1), st.floats(0.2, 5), st.booleans())
def test_the_mixture_is_what_its_docstring_says(alpha: float, temperature: float, both: bool) -> None:
    logits, labels, teacher = laws(7, 2, 3, 7), torch.arange(6).view(2, 3), laws(8, 2, 3, 7)
    losses = mixture(logits, labels, teacher, weights(alpha, 2, 3), temperature=temperature, soften_both=both)
    softened = (teacher.exp() ** (1 / temperature)) / (teacher.exp() ** (1 / temperature)).sum(-1, keepdim=True)
    student = (logits / temperature).log_softmax(-1) if both else logits.log_softmax(-1)
    kl = (softened * (softened.log() - student)).sum(-1).mean() * (temperature**2 if both else 1)
    ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(losses.total, (1 - alpha) * ce + alpha * kl)


def test_softening_both_keeps_the_size_of_the_gradient_as_the_temperature_grows() -> None:
    """Why Hinton scales by T²: at high T the gradient tends to (z - v)/vocab, whatever T."""
    logits, teacher = laws(1, 1, 1, 7), laws(2, 1, 1, 7)
    logits, teacher = logits - logits.mean(), teacher - teacher.mean()
    expected = (logits - teacher) / 7
    for temperature in (1e2, 1e3):
        x = logits.clone().requires_grad_()
        losses = mixture(
            x.log_softmax(-1),
            torch.zeros(1, 1, dtype=torch.long),
            teacher.log_softmax(-1),
            weights(1.0, 1, 1),
            temperature=temperature,
            soften_both=True,
        )
        losses.total.backward()
        torch.testing.assert_close(x.grad, expected, rtol=0.1, atol=0.02)


def test_temperature_one_is_no_operation_and_keeps_impossible_tokens() -> None:
    teacher = torch.tensor([[[0.5, 0.5, 0.0]]]).log()
    assert soften(teacher, 1.0) is teacher
    assert soften(teacher, 2.0).exp().tolist() == [[[0.5, 0.5, 0.0]]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_is_torchs(smoothing: float) -> None:
    logits, labels = laws(3, 2, 3, 7).requires_grad_(), torch.randint(0, 7, (2, 3))
    losses = mixture(logits.log_softmax(-1), labels, None, weights(0.0, 2, 3), smoothing=smoothing)
    theirs = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=smoothing)
    torch.testing.assert_close(losses.total, theirs)
    torch.testing.assert_close(losses.smoothed, theirs)
    torch.testing.assert_close(losses.cross_entropy, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))


def test_smoothing_leaves_masked_tokens_alone() -> None:
    logits = laws(3, 1, 2, 5)
    logits[..., 4] = -math.inf
    logits.requires_grad_()
    labels = torch.tensor([[0, 1]])
    mixture(logits.log_softmax(-1), labels, None, weights(0.0, 1, 2), smoothing=0.2).total.backward()
    masked = logits.grad
    short = logits.detach()[..., :4].clone().requires_grad_()
    mixture(short.log_softmax(-1), labels, None, weights(0.0, 1, 2), smoothing=0.2).total.backward()
    torch.testing.assert_close(masked[..., :4], short.grad)
    assert (masked[..., 4] == 0).all()


def gradient(
    teacher: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, parts: list, **settings
) -> torch.Tensor:
    """The gradient of the loss accumulated over parts, each (rows, valid positions or None, count or None)."""
    x = logits.clone().requires_grad_()
    hard, soft = laws(20, *labels.shape, 1).exp()[..., 0], laws(21, *labels.shape, 2).exp()[..., 0]
    for rows, valid, count in parts:
        each = Weights(hard[rows].float(), soft[rows].float(), torch.zeros(labels[rows].shape, dtype=torch.bool))
        found = mixture(
            x[rows].log_softmax(-1), labels[rows], teacher[rows], each, valid=valid, count=count, **settings
        )
        found.total.backward()
    return x.grad


@pytest.mark.parametrize("name", sorted(DIVERGENCES))
def test_parts_permutations_repetitions_and_padding_change_no_gradient(name: str) -> None:
    settings = {"beta": 0.3} if "jsd" in name else {}

    def divergence(p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
        return resolve(DIVERGENCES[name].implementation)(p, q, **settings)

    logits, labels, teacher = laws(9, 4, 3, 7), torch.randint(0, 7, (4, 3)), laws(10, 4, 3, 7)
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    n = int(valid.sum())
    whole = gradient(teacher, logits, labels, [([0, 1, 2, 3], valid, None)], divergence=divergence)
    assert (whole[~valid] == 0).all()
    assert (whole[valid] != 0).any(dim=-1).all()
    ragged = [([0], valid[[0]], n), ([2], valid[[2]], n), ([1, 3], valid[[1, 3]], n)]
    torch.testing.assert_close(gradient(teacher, logits, labels, ragged, divergence=divergence), whole)
    permuted = [([3, 1, 0, 2], valid[[3, 1, 0, 2]], None)]
    torch.testing.assert_close(gradient(teacher, logits, labels, permuted, divergence=divergence), whole)
    twice = [([0, 1, 2, 3] * 2, valid.repeat(2, 1), None)]
    torch.testing.assert_close(gradient(teacher, logits, labels, twice, divergence=divergence), whole)
    # whatever padding holds: nothing of it may enter
    rubbish_logits, rubbish_teacher = logits.clone(), teacher.clone()
    rubbish_logits[~valid], rubbish_teacher[~valid] = 1e4, math.nan
    padded = gradient(rubbish_teacher, rubbish_logits, labels, [([0, 1, 2, 3], valid, None)], divergence=divergence)
    torch.testing.assert_close(padded[valid], whole[valid])
    assert (padded[~valid] == 0).all()


def test_per_term_divides_each_term_by_its_own_positions_in_the_whole_batch() -> None:
    """Against two means taken apart; in parts, repeated and padded it stays that."""
    logits, labels, teacher = laws(9, 4, 3, 7), torch.randint(0, 7, (4, 3)), laws(10, 4, 3, 7)
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    hard = torch.tensor([[0.5, 0, 2], [0, 9, 9], [9, 9, 9], [0, 1, 9]]).double()  # 3 of the valid ones, 9s are padding
    soft = torch.tensor([[0, 1.5, 0], [1, 9, 9], [9, 9, 9], [0.2, 3, 9]]).double()  # 4
    own = Weights(hard, soft, torch.zeros_like(valid))
    ce = -logits.gather(-1, labels[..., None])[..., 0]
    kl = (teacher.exp() * (teacher - logits)).sum(-1)
    x = logits.clone().requires_grad_()
    scaled = per_term(own, valid)
    whole = mixture(x.log_softmax(-1), labels, teacher, scaled, valid=valid)
    apart = ((hard * ce)[valid].sum() / 3, (soft * kl)[valid].sum() / 4)
    torch.testing.assert_close(whole.total.detach(), sum(apart))
    whole.total.backward()

    def accumulated(rows: list[list[int]], times: int = 1) -> torch.Tensor:
        y = logits.clone().requires_grad_()
        weights = per_term(Weights(*(f.repeat(times, 1) for f in own)), valid.repeat(times, 1))
        for part in rows:
            each = Weights(*(field[part] for field in weights))
            of = [i % 4 for i in part]
            laws_of = (y[of].log_softmax(-1), labels[of], teacher[of])
            mixture(*laws_of, each, valid=valid[of], count=times * int(valid.sum())).total.backward()
        return y.grad

    torch.testing.assert_close(accumulated([[0], [2], [1, 3]]), x.grad)
    torch.testing.assert_close(accumulated([[3, 1, 0, 2]]), x.grad)
    torch.testing.assert_close(accumulated([list(range(8))], times=2), x.grad)


def test_per_term_of_a_term_that_weighs_nowhere_is_0_and_of_one_that_weighs_everywhere_is_it() -> None:
    scaled = per_term(weights(1.0, 2, 3))
    assert (scaled.hard == 0).all()
    assert (scaled.soft == 1).all()


def test_a_part_without_any_valid_position_is_zero_and_backward_works() -> None:
    logits = laws(1, 2, 3, 7).requires_grad_()
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    labels = torch.zeros(2, 3, dtype=torch.long)
    losses = mixture(logits.log_softmax(-1), labels, laws(2, 2, 3, 7), weights(0.5, 2, 3), valid=nothing)
    losses.total.backward()
    assert losses.total == 0
    assert (logits.grad == 0).all()


def test_one_valid_label_touches_its_position_alone() -> None:
    logits, valid = laws(1, 1, 4, 7).requires_grad_(), torch.tensor([[False, False, True, False]])
    labels = torch.arange(4)[None]
    mixture(logits.log_softmax(-1), labels, laws(2, 1, 4, 7), weights(0.5, 1, 4), valid=valid).total.backward()
    assert logits.grad.abs().sum(-1).bool().tolist() == valid.tolist()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 1.0])
def test_half_precision_logits_give_the_gradients_of_float64(alpha: float) -> None:
    logits, labels, teacher = laws(11, 4, 8, 50), torch.randint(0, 50, (4, 8)), laws(12, 4, 8, 50)
    teacher = laws(11, 4, 8, 50) * 0.99 if alpha == 1 else teacher  # near convergence, where rounding bites
    x = logits.bfloat16().requires_grad_()
    law = teacher.log_softmax(-1).float()
    mixture(x.float().log_softmax(-1), labels, law, weights(alpha, 4, 8)).total.backward()
    y = logits.bfloat16().double().requires_grad_()
    reference = (1 - alpha) * cross_entropy(y.log_softmax(-1), labels).mean()
    (reference + alpha * forward_kl(law.double(), y.log_softmax(-1)).mean()).backward()
    assert ((x.grad.double() - y.grad).norm() / y.grad.norm()).item() < 5e-3
