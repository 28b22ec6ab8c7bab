import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch.autograd import gradcheck

from mechdistill.laws import mixed, soften

SOME = torch.tensor([[[0.5, 0.3, 0.2, 0.0], [0.0, 1.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]], dtype=torch.float64).log()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(temperature=st.floats(0.01, 100), weights=st.lists(st.floats(1e-30, 1), min_size=2, max_size=9))
def test_soften_is_a_softmax_at_any_temperature(dtype: torch.dtype, temperature: float, weights: list[float]) -> None:
    law = torch.tensor([[[*weights, 0.0]]], dtype=torch.float64).log().log_softmax(-1).to(dtype)
    got = soften(law, temperature)
    assert got.dtype == dtype
    want = softmax(law[..., :-1].double().numpy() / temperature, axis=-1)
    np.testing.assert_allclose(got[..., :-1].exp().double().numpy(), want, rtol=1e-5, atol=1e-6)
    assert float(got[0, 0, -1]) == -math.inf, "what is excluded stays so"
    assert bool((got[..., :-1] > -math.inf).all()), "and nothing else is excluded"


def test_soften_at_one_is_the_law_itself() -> None:
    assert soften(SOME, 1.0) is SOME


def test_a_low_temperature_does_not_magnify_rounding() -> None:
    law = torch.linspace(-4.13, -4.09, 61)[None, None]  # nearly flat, all far from 0
    want = softmax(law.double().numpy() / 0.01, axis=-1)
    np.testing.assert_allclose(soften(law, 0.01).exp().numpy(), want, rtol=4e-6)


def test_soften_has_a_gradient() -> None:
    law = torch.tensor([[[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]]], dtype=torch.float64).log().requires_grad_()
    assert gradcheck(lambda p: soften(p, 0.3), law)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [0.0, 1e-12, 0.25, 0.999, 1.0])
def test_mixed_is_the_mean_of_probabilities(share: float, dtype: torch.dtype) -> None:
    one, other = SOME.to(dtype), SOME.flip(-2).to(dtype)
    got = mixed(one, other, torch.tensor(share, dtype=torch.float64))
    assert got.dtype == dtype
    want = (1 - share) * one.exp() + share * other.exp()
    torch.testing.assert_close(got.exp(), want)
    assert torch.equal(got == -math.inf, want == 0), "excluded by both, or by the one that is left"
    if share in (0, 1):
        assert torch.equal(got, (one, other)[int(share)])


def test_mixed_by_position() -> None:
    share = torch.tensor([[0.0, 0.5, 1.0]], dtype=torch.float64)
    other = SOME.roll(1, -1)
    got = mixed(SOME, other, share[..., None])
    assert torch.equal(got[:, 0], SOME[:, 0])
    torch.testing.assert_close(got[:, 1].exp(), torch.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=torch.float64))
    assert torch.equal(got[:, 2], other[:, 2])
