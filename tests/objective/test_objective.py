import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.objective import cross_entropy, forward_kl, mixture, soften


def laws(seed: int, *shape: int, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * scale).log_softmax(-1)


@given(st.integers(0, 10_000), st.floats(0.01, 30))
def test_kl_is_torchs_kl_and_zero_only_for_itself(seed: int, scale: float) -> None:
    teacher, student = laws(seed, 2, 3, 7, scale=scale), laws(seed + 1, 2, 3, 7, scale=scale)
    expected = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(forward_kl(teacher, student), expected)
    assert (forward_kl(teacher, student) >= -1e-12).all(), "negative beyond rounding"
    torch.testing.assert_close(forward_kl(teacher, teacher), torch.zeros(2, 3, dtype=torch.float64))


def test_soft_cross_entropy_minus_kl_is_the_teachers_entropy() -> None:
    teacher, student = laws(0, 2, 3, 7), laws(1, 2, 3, 7)
    soft_ce = -(teacher.exp() * student).sum(-1)
    torch.testing.assert_close(
        soft_ce - forward_kl(teacher, student), torch.distributions.Categorical(logits=teacher).entropy()
    )


def test_gradients_have_their_closed_form() -> None:
    logits = (laws(2, 2, 3, 7) * 1.0).requires_grad_()
    teacher = laws(3, 2, 3, 7)
    forward_kl(teacher, logits.log_softmax(-1)).sum().backward()
    torch.testing.assert_close(logits.grad, logits.detach().softmax(-1) - teacher.exp())
    torch.autograd.gradcheck(lambda x: forward_kl(teacher, x.log_softmax(-1)), (laws(4, 2, 3, 7).requires_grad_(),))


def test_tokens_that_the_teacher_excludes_add_neither_value_nor_gradient() -> None:
    teacher = torch.full((1, 1, 4), -math.inf, dtype=torch.float64)
    teacher[..., 2] = 0.0
    log_probs = laws(5, 1, 1, 4).requires_grad_()
    value = forward_kl(teacher, log_probs)
    assert value.item() == pytest.approx(-log_probs[..., 2].item())
    value.sum().backward()
    assert log_probs.grad.tolist() == [[[0.0, 0.0, -1.0, 0.0]]]
    masked = torch.tensor([[[0.0, -math.inf, 1.0, 2.0]]], dtype=torch.float64, requires_grad=True)
    both = torch.tensor([[[0.2, 0.0, 0.3, 0.5]]], dtype=torch.float64).log()
    forward_kl(both, masked.log_softmax(-1)).sum().backward()
    assert masked.grad.isfinite().all()
    assert masked.grad[0, 0, 1] == 0


def test_uniform_guessing_scores_chance() -> None:
    uniform = torch.zeros(1, 3, 8).log_softmax(-1)
    one_hot = torch.full((1, 3, 8), -math.inf)
    one_hot[..., 0] = 0.0
    torch.testing.assert_close(forward_kl(one_hot, uniform), torch.full((1, 3), math.log(8)))
    torch.testing.assert_close(cross_entropy(uniform, torch.tensor([[1, 2, 3]])), torch.full((1, 3), math.log(8)))


def test_alpha_zero_is_plain_cross_entropy_to_the_bit() -> None:
    logits, labels = laws(6, 2, 3, 7).float().requires_grad_(), torch.randint(0, 7, (2, 3))
    losses = mixture(logits, labels, None, alpha=0.0)
    losses.total.backward()
    ours, logits.grad = logits.grad.clone(), None
    F.cross_entropy(logits.flatten(0, 1), labels.flatten()).backward()
    torch.testing.assert_close(ours, logits.grad, rtol=1e-6, atol=1e-9)
    assert losses.kl is None
    assert torch.equal(losses.total, losses.cross_entropy)


@given(st.floats(0.01, 1), st.floats(0.2, 5))
def test_the_mixture_is_what_its_docstring_says(alpha: float, temperature: float) -> None:
    logits, labels, teacher = laws(7, 2, 3, 7), torch.arange(6).view(2, 3), laws(8, 2, 3, 7)
    losses = mixture(logits, labels, teacher, alpha=alpha, temperature=temperature)
    softened = (teacher.exp() ** (1 / temperature)) / (teacher.exp() ** (1 / temperature)).sum(-1, keepdim=True)
    kl = (softened * (softened.log() - logits.log_softmax(-1))).sum(-1).mean()
    ce = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(losses.total, ((1 - alpha) * ce + alpha * kl).float(), rtol=1e-4, atol=1e-5)


def test_temperature_one_is_no_operation_and_keeps_impossible_tokens() -> None:
    teacher = torch.tensor([[[0.5, 0.5, 0.0]]]).log()
    assert soften(teacher, 1.0) is teacher
    assert soften(teacher, 2.0).exp().tolist() == [[[0.5, 0.5, 0.0]]]


def test_repeating_or_permuting_the_batch_changes_no_gradient() -> None:
    logits, labels, teacher = laws(9, 2, 3, 7), torch.randint(0, 7, (2, 3)), laws(10, 2, 3, 7)

    def gradient(order: list[int]) -> torch.Tensor:
        x = logits.float().clone().requires_grad_()
        mixture(x[order], labels[order], teacher[order], alpha=0.7).total.backward()
        return x.grad

    torch.testing.assert_close(gradient([0, 1]), gradient([0, 1, 0, 1]))
    torch.testing.assert_close(gradient([0, 1]), gradient([1, 0]))


def test_half_precision_inputs_give_the_gradients_of_float64() -> None:
    logits, labels, teacher = laws(11, 4, 8, 50), torch.randint(0, 50, (4, 8)), laws(12, 4, 8, 50)
    gradients = []
    for dtype in (torch.bfloat16, torch.float64):
        x = logits.bfloat16().to(dtype).requires_grad_()
        log_probs = (x.float() if dtype == torch.bfloat16 else x).log_softmax(-1)
        reference = (
            0.1 * cross_entropy(log_probs, labels).mean() + 0.9 * forward_kl(teacher.to(log_probs), log_probs).mean()
        )
        loss = mixture(x, labels, teacher.float(), alpha=0.9).total if dtype == torch.bfloat16 else reference
        loss.backward()
        gradients.append(x.grad.double())
    assert ((gradients[0] - gradients[1]).norm() / gradients[1].norm()).item() < 5e-3


def test_a_teacher_where_alpha_is_zero_is_refused_and_the_other_way_round() -> None:
    logits, labels = laws(0, 1, 2, 5), torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match="alpha"):
        mixture(logits, labels, None, alpha=0.5)
    with pytest.raises(ValueError, match="alpha"):
        mixture(logits, labels, laws(1, 1, 2, 5), alpha=0.0)
