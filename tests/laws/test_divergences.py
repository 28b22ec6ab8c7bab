"""Every divergence against scipy, closed-form gradients, the identities between them, and the ways they go wrong."""

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from mechdistill.config import DIVERGENCES
from mechdistill.laws import (
    cross_entropy,
    entropy,
    forward_kl,
    jsd,
    normalised_jsd,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from mechdistill.tables import resolve

INF = math.inf
FUNCTIONS = {name: resolve(kind.implementation) for name, kind in DIVERGENCES.items()}
BETAS = {"jsd": (1e-4, 0.3, 0.5, 0.9), "normalised-jsd": (0.0, 1e-4, 0.3, 0.5, 0.9, 1 - 1e-4, 1.0)}
CASES = [(name, {"beta": beta}) for name, betas in BETAS.items() for beta in betas]
CASES += [(name, {}) for name in FUNCTIONS if name not in BETAS]
every_divergence = pytest.mark.parametrize(("name", "settings"), CASES, ids=lambda value: str(value))

seeds, scales = st.integers(0, 10_000), st.floats(0.01, 30)


def scores(seed: int, *shape: int, scale: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64) * scale


def laws(seed: int, *shape: int, scale: float = 2.0) -> torch.Tensor:
    return scores(seed, *shape, scale=scale).log_softmax(-1)


def log(*probabilities: float) -> torch.Tensor:
    return torch.tensor([[probabilities]], dtype=torch.float64).log()


def gradient(name: str, teacher: torch.Tensor, logits: torch.Tensor, **settings: Any) -> torch.Tensor:
    leaf = logits.clone().requires_grad_()
    FUNCTIONS[name](teacher, leaf.log_softmax(-1), **settings).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def from_the_definition(name: str, p: np.ndarray, q: np.ndarray, beta: float = 0.5) -> np.ndarray:
    """The divergence from probabilities, by scipy's relative entropy."""
    if name == "forward-kl" or (name, beta) == ("normalised-jsd", 0):
        return rel_entr(p, q).sum(-1)
    if name == "reverse-kl" or (name, beta) == ("normalised-jsd", 1):
        return rel_entr(q, p).sum(-1)
    if name == "total-variation":  # the largest difference over all events, tried one by one
        events = np.array(list(product([0, 1], repeat=p.shape[-1])))
        return np.abs((p - q) @ events.T).max(-1)
    m = beta * p + (1 - beta) * q
    mixed = beta * rel_entr(p, m).sum(-1) + (1 - beta) * rel_entr(q, m).sum(-1)
    return mixed / (beta * (1 - beta)) if name == "normalised-jsd" else mixed


def gradient_in_the_logits(name: str, p: torch.Tensor, q: torch.Tensor, beta: float = 0.5) -> torch.Tensor:
    """The closed forms of the docstrings, from probabilities."""

    def centred(slope: torch.Tensor) -> torch.Tensor:
        return q * (slope - (q * slope).sum(-1, keepdim=True))

    m = beta * p + (1 - beta) * q
    if name == "forward-kl" or (name, beta) == ("normalised-jsd", 0):
        return q - p
    return {
        "reverse-kl": lambda: centred((q / p).log()),
        "jsd": lambda: (1 - beta) * centred((q / m).log()),
        "normalised-jsd": lambda: centred((q / m).log()) / beta,
        "total-variation": lambda: 0.5 * centred((q - p).sign()),
    }[name]()


@every_divergence
def test_values_are_those_of_scipy(name: str, settings: dict[str, float]) -> None:
    teacher, student = laws(0, 3, 4, 7), laws(1, 3, 4, 7)
    expected = from_the_definition(name, teacher.exp().numpy(), student.exp().numpy(), **settings)
    np.testing.assert_allclose(FUNCTIONS[name](teacher, student, **settings).numpy(), expected, rtol=1e-9)


@given(seeds, scales)
def test_kl_is_torchs_kl_and_jsd_is_scipys(seed: int, scale: float) -> None:
    teacher, student = laws(seed, 2, 3, 7, scale=scale), laws(seed + 1, 2, 3, 7, scale=scale)
    for ours, of, to in ((forward_kl, teacher, student), (reverse_kl, student, teacher)):
        expected = F.kl_div(to, of, reduction="none", log_target=True).sum(-1)
        torch.testing.assert_close(ours(teacher, student), expected)
    distance = jensenshannon(teacher.exp().numpy(), student.exp().numpy(), axis=-1)
    np.testing.assert_allclose(jsd(teacher, student, 0.5).numpy(), distance**2, rtol=1e-7, atol=1e-12)


@every_divergence
def test_gradients_have_their_closed_form(name: str, settings: dict[str, float]) -> None:
    teacher, logits = laws(2, 2, 3, 7), scores(3, 2, 3, 7)
    expected = gradient_in_the_logits(name, teacher.exp(), logits.softmax(-1), **settings)
    torch.testing.assert_close(gradient(name, teacher, logits, **settings), expected, rtol=1e-8, atol=1e-12)
    assert (expected.abs().sum(-1) > 0).all(), "a term without a gradient trains nobody"


@every_divergence
def test_gradients_are_those_of_finite_differences(name: str, settings: dict[str, float]) -> None:
    teacher, logits = laws(4, 2, 3, 7), scores(5, 2, 3, 7).requires_grad_()
    torch.autograd.gradcheck(lambda x: FUNCTIONS[name](teacher, x.log_softmax(-1), **settings), (logits,))
    # in the teacher's logits too, for a teacher that learns
    student = logits.detach().log_softmax(-1)
    moving = scores(6, 2, 3, 7).requires_grad_()
    torch.autograd.gradcheck(lambda x: FUNCTIONS[name](x.log_softmax(-1), student, **settings), (moving,))


@every_divergence
@given(seed=seeds, scale=scales)
def test_a_law_is_at_no_distance_from_itself(name: str, settings: dict[str, float], seed: int, scale: float) -> None:
    law = laws(seed, 2, 3, 7, scale=scale)
    assert FUNCTIONS[name](law, law, **settings).abs().max() < 1e-12
    gradients = gradient(name, law, scores(seed, 2, 3, 7, scale=scale), **settings)
    torch.testing.assert_close(gradients, torch.zeros_like(law), rtol=0, atol=1e-12)


@every_divergence
@given(seed=seeds, scale=st.floats(0.001, 200), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_values_are_finite_and_no_less_than_zero(
    name: str, settings: dict[str, float], seed: int, scale: float, dtype: torch.dtype
) -> None:
    teacher, logits = laws(seed, 2, 3, 7, scale=scale).to(dtype), scores(seed + 1, 2, 3, 7, scale=scale).to(dtype)
    value = FUNCTIONS[name](teacher, logits.log_softmax(-1), **settings)
    assert value.dtype == dtype
    assert value.isfinite().all()
    assert (value >= -20 * torch.finfo(dtype).eps * (1 + scale)).all(), "negative beyond rounding"
    gradients = gradient(name, teacher, logits, **settings)
    assert gradients.dtype == dtype
    assert gradients.isfinite().all()


@given(seeds, scales, st.floats(0, 1), st.sampled_from([torch.float32, torch.float64]))
def test_jsd_is_finite_and_in_its_range_for_any_beta(seed: int, scale: float, beta: float, dtype: torch.dtype) -> None:
    teacher, logits = laws(seed, 2, 3, 7, scale=scale).to(dtype), scores(seed + 1, 2, 3, 7, scale=scale).to(dtype)
    student, slack = logits.log_softmax(-1), 100 * torch.finfo(dtype).eps
    value = normalised_jsd(teacher, student, beta)
    assert value.isfinite().all()
    assert (value >= -slack * (1 + scale)).all()
    assert gradient("normalised-jsd", teacher, logits, beta=beta).isfinite().all()
    if 0 < beta < 1:
        most = -beta * math.log(beta) - (1 - beta) * math.log1p(-beta)
        assert (jsd(teacher, student, beta) <= most * (1 + slack)).all()


@given(seeds, st.floats(0.001, 0.999))
def test_jsd_swaps_its_weights_with_its_laws(seed: int, beta: float) -> None:
    teacher, student = laws(seed, 2, 3, 7), laws(seed + 1, 2, 3, 7)
    torch.testing.assert_close(jsd(teacher, student, beta), jsd(student, teacher, 1 - beta))
    torch.testing.assert_close(normalised_jsd(teacher, student, beta), normalised_jsd(student, teacher, 1 - beta))
    torch.testing.assert_close(jsd(teacher, student, 0.5), jsd(student, teacher, 0.5))


def test_betas_weight_belongs_to_the_teacher() -> None:
    # disjoint laws: m is the teacher's at token 0 with weight beta, so KL(p ‖ m) = -ln beta
    teacher, student, beta = log(1, 0), log(0, 1), 0.1
    expected = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    assert jsd(teacher, student, beta).item() == pytest.approx(expected)
    assert jsd(teacher, student, 0.5).item() == pytest.approx(math.log(2))
    # overlapping: only the student reaches token 1
    half = log(0.5, 0.5)
    m = 0.1 * 1 + 0.9 * 0.5
    expected = 0.1 * math.log(1 / m) + 0.9 * (0.5 * math.log(0.5 / m) + 0.5 * math.log(0.5 / 0.45))
    assert jsd(teacher, half, beta).item() == pytest.approx(expected)


@given(seeds, scales)
def test_normalised_jsd_ends_in_the_two_kls(seed: int, scale: float) -> None:
    teacher, student = laws(seed, 2, 3, 7, scale=scale), laws(seed + 1, 2, 3, 7, scale=scale)
    assert torch.equal(normalised_jsd(teacher, student, 0.0), forward_kl(teacher, student))
    assert torch.equal(normalised_jsd(teacher, student, 1.0), reverse_kl(teacher, student))


@pytest.mark.parametrize(("scale", "slope"), [(0.01, 1.0), (0.3, 1.0), (1.0, 20.0)])
def test_normalised_jsd_is_continuous_at_its_ends(scale: float, slope: float) -> None:
    teacher, logits = laws(0, 4, 8, 50, scale=scale), scores(1, 4, 8, 50, scale=scale)
    student = logits.log_softmax(-1)
    ends = {0: forward_kl(teacher, student), 1: reverse_kl(teacher, student)}
    for beta in (1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-15, 1e-30, 1e-45, 1e-310):
        near = normalised_jsd(teacher, student, beta)
        assert ((near - ends[0]) / ends[0]).abs().max() < slope * beta + 1e-10
        if 1 - beta < 1:  # as a float
            near = normalised_jsd(teacher, student, 1 - beta)
            assert ((near - ends[1]) / ends[1]).abs().max() < slope * beta + 1e-10
    # plain JSD is what vanishes there
    assert (jsd(teacher, student, 1e-4) < 1e-3 * ends[0]).all()


@pytest.mark.parametrize("beta", [0.5, 1e-2, 1e-4, 1e-8, 1e-16, 1e-30, 1e-31, 1 - 1e-4, 1 - 1e-8, 1 - 1e-15])
@pytest.mark.parametrize("scale", [0.01, 0.3, 3.0, 30.0])
def test_float32_loses_nothing_near_the_ends(beta: float, scale: float) -> None:
    teacher, logits = laws(2, 4, 8, 50, scale=scale), scores(3, 4, 8, 50, scale=scale).float()
    exact = normalised_jsd(teacher.float().double(), logits.double().log_softmax(-1), beta)
    value = normalised_jsd(teacher.float(), logits.log_softmax(-1), beta).double()
    assert ((value - exact) / exact).abs().max() < 1e-4
    exact = gradient("normalised-jsd", teacher, logits.double(), beta=beta)
    ours = gradient("normalised-jsd", teacher.float(), logits, beta=beta).double()
    assert (ours - exact).norm() < 5e-5 * exact.norm() + 2e-6 * scale  # log-probabilities are rounded by their size


@given(seeds, scales)
def test_pinskers_inequality_bounds_total_variation(seed: int, scale: float) -> None:
    teacher, student = laws(seed, 2, 3, 7, scale=scale), laws(seed + 1, 2, 3, 7, scale=scale)
    distance = total_variation(teacher, student)
    assert (distance <= 1 + 1e-12).all()
    for kl in (forward_kl(teacher, student), reverse_kl(teacher, student)):
        assert (distance <= (kl.clamp(min=0) / 2).sqrt() + 1e-12).all()


def test_soft_cross_entropy_is_kl_plus_the_teachers_entropy_with_its_gradient() -> None:
    teacher, logits = laws(0, 2, 3, 7), scores(1, 2, 3, 7).requires_grad_()
    student = logits.log_softmax(-1)
    torch.testing.assert_close(
        soft_cross_entropy(teacher, student) - forward_kl(teacher, student),
        torch.distributions.Categorical(logits=teacher).entropy(),
    )
    torch.testing.assert_close(entropy(teacher), torch.distributions.Categorical(logits=teacher).entropy())
    soft_cross_entropy(teacher, student).sum().backward()
    torch.testing.assert_close(logits.grad, gradient("forward-kl", teacher, logits.detach()))
    # a one-hot teacher makes it the cross-entropy with the label
    one_hot = torch.full((2, 3, 7), -INF, dtype=torch.float64)
    one_hot[..., 4] = 0.0
    labels = torch.full((2, 3), 4)
    torch.testing.assert_close(soft_cross_entropy(one_hot, student), cross_entropy(student, labels))


def test_entropy_ignores_excluded_tokens_and_has_its_closed_form_gradient() -> None:
    logits = torch.tensor([[[0.3, -INF, 1.0, -2.0]]], dtype=torch.float64, requires_grad=True)
    value = entropy(logits.log_softmax(-1))
    value.sum().backward()
    p = logits.detach().softmax(-1)
    expected = -p * (torch.where(p > 0, p, 1.0).log() + value.detach())
    torch.testing.assert_close(logits.grad, expected)
    assert logits.grad[0, 0, 1] == 0
    assert value.item() == pytest.approx(-sum(x * math.log(x) for x in p.flatten().tolist() if x > 0))


@every_divergence
def test_a_token_that_both_laws_exclude_might_as_well_not_exist(name: str, settings: dict[str, float]) -> None:
    teacher_scores, logits = scores(7, 2, 3, 9), scores(8, 2, 3, 9)
    teacher_scores[..., [1, 8]] = logits[..., [1, 8]] = -INF
    kept = [0, 2, 3, 4, 5, 6, 7]
    teacher, smaller = teacher_scores.log_softmax(-1), teacher_scores[..., kept].log_softmax(-1)
    value = FUNCTIONS[name](teacher, logits.log_softmax(-1), **settings)
    expected = FUNCTIONS[name](smaller, logits[..., kept].log_softmax(-1), **settings)
    torch.testing.assert_close(value, expected)
    gradients = gradient(name, teacher, logits, **settings)
    torch.testing.assert_close(gradients[..., kept], gradient(name, smaller, logits[..., kept], **settings))
    assert (gradients[..., [1, 8]] == 0).all()


def is_reverse(name: str, settings: dict[str, float]) -> bool:
    return name == "reverse-kl" or (name, settings.get("beta")) == ("normalised-jsd", 1)


def is_forward(name: str, settings: dict[str, float]) -> bool:
    return name == "forward-kl" or (name, settings.get("beta")) == ("normalised-jsd", 0)


@every_divergence
def test_a_token_that_one_law_excludes(name: str, settings: dict[str, float]) -> None:
    masked, full = scores(9, 2, 3, 7), scores(10, 2, 3, 7)
    masked[..., 3] = -INF
    for teacher, logits in ((masked.log_softmax(-1), full), (full.log_softmax(-1), masked)):
        value = FUNCTIONS[name](teacher, logits.log_softmax(-1), **settings)
        expected = from_the_definition(name, teacher.exp().numpy(), logits.softmax(-1).numpy(), **settings)
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-9)  # infinite where the definition is
        infinite = is_reverse(name, settings) if teacher[0, 0, 3] == -INF else is_forward(name, settings)
        assert value.isinf().all() if infinite else value.isfinite().all()
        if not infinite:
            gradients = gradient(name, teacher, logits, **settings)
            assert gradients.isfinite().all()
            assert logits[0, 0, 3] > -INF or (gradients[..., 3] == 0).all()
            torch.testing.assert_close(gradients.sum(-1), torch.zeros(2, 3, dtype=torch.float64))


def test_reverse_kl_stays_infinite_where_the_students_probability_underflows() -> None:
    teacher = torch.tensor([[[0.0, -INF]]])
    student = torch.tensor([[[0.0, -200.0]]]).log_softmax(-1)
    assert student.exp()[0, 0, 1] == 0
    assert reverse_kl(teacher, student).item() == INF
    assert normalised_jsd(teacher, student, 1.0).item() == INF


def test_forward_kl_by_hand_with_excluded_tokens() -> None:
    teacher = torch.full((1, 1, 4), -INF, dtype=torch.float64)
    teacher[..., 2] = 0.0
    log_probs = laws(5, 1, 1, 4).requires_grad_()
    value = forward_kl(teacher, log_probs)
    assert value.item() == pytest.approx(-log_probs[..., 2].item())
    value.sum().backward()
    assert log_probs.grad.tolist() == [[[0.0, 0.0, -1.0, 0.0]]]


@pytest.mark.parametrize("vocab", [2, 8, 1000])
def test_uniform_guessing_scores_chance(vocab: int) -> None:
    uniform = torch.zeros(1, 3, vocab, dtype=torch.float64).log_softmax(-1)
    one_hot = torch.full((1, 3, vocab), -INF, dtype=torch.float64)
    one_hot[..., 0] = 0.0

    def everywhere(value: float) -> torch.Tensor:
        return torch.full((1, 3), value, dtype=torch.float64)

    torch.testing.assert_close(forward_kl(one_hot, uniform), everywhere(math.log(vocab)))
    torch.testing.assert_close(reverse_kl(one_hot, uniform), everywhere(INF))
    torch.testing.assert_close(total_variation(one_hot, uniform), everywhere(1 - 1 / vocab))
    torch.testing.assert_close(soft_cross_entropy(laws(0, 1, 3, vocab), uniform), everywhere(math.log(vocab)))
    torch.testing.assert_close(entropy(uniform), everywhere(math.log(vocab)))
    torch.testing.assert_close(cross_entropy(uniform, torch.tensor([[1, 0, 1]])), everywhere(math.log(vocab)))
    for beta in (0.1, 0.5, 0.9):
        c = beta + (1 - beta) / vocab
        chance = -c * math.log(c) - (1 - c) * math.log(1 - beta) - (1 - beta) * math.log(vocab) / vocab
        torch.testing.assert_close(jsd(one_hot, uniform, beta), everywhere(chance))
        torch.testing.assert_close(normalised_jsd(one_hot, uniform, beta), everywhere(chance / (beta * (1 - beta))))


@every_divergence
@pytest.mark.parametrize("distance", [3.0, 0.1])
def test_half_precision_logits_upcast_first_give_the_gradients_of_float64(
    name: str, settings: dict[str, float], distance: float
) -> None:
    at = scores(11, 4, 8, 200, scale=3.0)
    teacher, logits = at.bfloat16(), (at + scores(12, 4, 8, 200, scale=distance)).bfloat16()
    exact = gradient(name, teacher.double().log_softmax(-1), logits.double(), **settings)

    def error(student: torch.Tensor, leaf: torch.Tensor, teacher: torch.Tensor) -> float:
        FUNCTIONS[name](teacher, student, **settings).sum().backward()
        assert leaf.grad is not None
        return ((leaf.grad.double() - exact).norm() / exact.norm()).item()

    leaf = logits.clone().requires_grad_()
    # 2e-3 is what rounding the finished gradient to bfloat16 costs; in float32 it is right to 1e-5
    assert error(leaf.float().log_softmax(-1), leaf, teacher.float().log_softmax(-1)) < 4e-3
    leaf = logits.float().requires_grad_()
    assert error(leaf.log_softmax(-1), leaf, teacher.float().log_softmax(-1)) < 1e-5
    if distance < 1:  # the other order is what this guards against
        leaf = logits.clone().requires_grad_()
        assert error(leaf.log_softmax(-1).float(), leaf, teacher.log_softmax(-1).float()) > 2e-2


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.1, math.nan])
def test_a_beta_outside_its_range_is_refused(beta: float) -> None:
    law = laws(0, 1, 2, 5)
    with pytest.raises(ValueError, match="beta="):
        jsd(law, law, beta)
    if not 0 <= beta <= 1:
        with pytest.raises(ValueError, match="beta="):
            normalised_jsd(law, law, beta)
