import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mechdistill.config import SIGNALS, ArmConfig, RoutingConfig
from mechdistill.objective import Asked, Objective, Seen, route
from mechdistill.tables import resolve
from mechdistill.teachers import Moment, Oracle
from tests.helpers import world


def seen(sandbox, *, seed: int = 0, batch: int = 8, student: torch.Tensor | None = None) -> Seen:
    data = sandbox.batch(seed, 0, batch)
    labels = sandbox.labels(data.tokens, data.triggers)
    law = Oracle(sandbox).log_probs(data.tokens, labels)
    draws = torch.rand(data.tokens.shape, generator=torch.Generator().manual_seed(seed))
    return Seen(law, torch.zeros_like(law).log_softmax(-1) if student is None else student, labels.copyable, draws)


def signal_of(name: str, found: Seen) -> torch.Tensor:
    return resolve(SIGNALS[name].implementation)(found)


def routing(**settings) -> RoutingConfig:
    return RoutingConfig.model_validate({"signal": "teacher-entropy", "quantile": 0.15, **settings})


@pytest.mark.parametrize("quantile", [0.0, 0.05, 0.15, 0.3, 0.5, 1.0])
@pytest.mark.parametrize(
    ("signal", "tail"),
    [("random", "low"), *((s, t) for s in sorted(SIGNALS) if s != "random" for t in ("low", "high"))],
)
def test_the_asked_fraction_is_routed_in_every_sequence_however_many_ties(signal, quantile, tail) -> None:
    """Oracle entropies take few values; a threshold at their quantile would route far more or nothing."""
    sandbox = world(vocab=8, rows={"kind": "two-level", "low": 2, "high": 4}, seq_len=64)
    config = routing(signal=signal, quantile=quantile, tail=tail)
    routed = route(config, seen(sandbox, batch=32))
    asked = quantile * 64
    assert (routed.sum(dim=1) - asked).abs().max() <= 0.5
    whole = route(routing(signal=signal, quantile=quantile, tail=tail, scope="batch"), seen(sandbox, batch=32))
    assert abs(int(whole.sum()) - 32 * asked) <= 0.5


def test_thresholds_at_a_quantile_would_have_missed() -> None:
    """The trap itself: with ties, entropy < quantile and entropy <= quantile are both far from 15 %."""
    sandbox = world(vocab=8, rows={"kind": "two-level", "low": 2, "high": 4}, seq_len=64)
    signal = signal_of("teacher-entropy", seen(sandbox, batch=32))
    cut = signal.quantile(0.15)
    shares = [(signal < cut).float().mean().item(), (signal <= cut).float().mean().item()]
    assert all(abs(share - 0.15) > 0.05 for share in shares), shares


def test_among_equals_no_position_is_preferred() -> None:
    """A signal that is constant: over many draws every position is routed equally often (chi-squared)."""
    length, rounds, taken = 20, 4000, 3
    law = torch.full((1, length, 4), -math.log(4))
    counts = torch.zeros(length)
    for number in range(rounds):
        draws = torch.rand((1, length), generator=torch.Generator().manual_seed(number))
        found = Seen(law, law, torch.zeros(1, length, dtype=torch.bool), draws)
        counts += route(routing(quantile=taken / length), found)[0]
    p = taken / length
    chi = ((counts - rounds * p) ** 2 / (rounds * p * (1 - p))).sum() * (1 - 1 / length)
    assert chi < 50, counts  # 19 degrees of freedom: p < 1e-4 beyond
    assert counts.sum() == rounds * taken


def test_the_tails_are_the_extremes_and_ties_are_cut_between_them() -> None:
    entropies = torch.tensor([3.0, 1.0, 1.0, 1.0, 0.0, 2.0])
    law = torch.stack([_law_of_entropy(float(h), 40) for h in entropies])[None]
    for number in range(20):
        draws = torch.rand((1, 6), generator=torch.Generator().manual_seed(number))
        found = Seen(law, law, torch.zeros(1, 6, dtype=torch.bool), draws)
        low = route(routing(quantile=0.5), found)[0]
        assert low[4]
        assert low[[1, 2, 3]].sum() == 2
        assert route(routing(quantile=0.5, tail="high"), found)[0].tolist().count(True) == 3
        assert route(routing(quantile=0.5, tail="high"), found)[0][[0, 5]].all()


def _law_of_entropy(nats: float, vocab: int) -> torch.Tensor:
    """Log-law (1-e, e/(V-1), ...) of the wanted entropy, by bisection."""
    low, high = 0.0, 1 - 1 / vocab
    for _ in range(60):
        e = (low + high) / 2
        h = -(1 - e) * math.log(1 - e) - (e * math.log(e / (vocab - 1)) if e else 0)
        low, high = (e, high) if h < nats else (low, e)
    rest = math.log(low / (vocab - 1)) if low else -math.inf
    return torch.tensor([math.log1p(-low)] + [rest] * (vocab - 1))


def test_nats_route_at_or_beyond_the_threshold() -> None:
    sandbox = world()
    found = seen(sandbox)
    entropy = signal_of("teacher-entropy", found)
    assert torch.equal(route(routing(quantile=None, nats=0.7), found), entropy <= 0.7)
    assert torch.equal(route(routing(quantile=None, nats=0.7, tail="high"), found), entropy >= 0.7)


def test_oracle_class_routes_exactly_the_copyable_positions() -> None:
    found = seen(world())
    assert found.copyable.any()
    assert torch.equal(route(routing(signal="oracle-class", quantile=None), found), found.copyable)
    assert torch.equal(route(routing(signal="oracle-class", quantile=None, tail="high"), found), ~found.copyable)


def test_signals_equal_their_formulas() -> None:
    sandbox = world()
    student = torch.randn(8, 16, 12, generator=torch.Generator().manual_seed(1)).log_softmax(-1)
    found = seen(sandbox, student=student)
    p, q = found.teacher_log_probs.exp(), student.exp()
    torch.testing.assert_close(signal_of("teacher-entropy", found), torch.special.entr(p).sum(-1))
    torch.testing.assert_close(signal_of("student-entropy", found), torch.special.entr(q).sum(-1))
    kl = torch.where(p > 0, p * (p.log() - q.log()), 0.0).sum(-1)
    torch.testing.assert_close(signal_of("student-teacher-kl", found), kl)


@given(st.integers(1, 40), st.floats(0, 1))
def test_any_length_and_fraction(length: int, quantile: float) -> None:
    law = torch.full((2, length, 4), -math.log(4))
    found = Seen(law, law, torch.zeros(2, length, dtype=torch.bool), torch.rand(2, length))
    routed = route(routing(signal="random", quantile=quantile), found)
    assert (routed.sum(dim=1) - quantile * length).abs().max() <= 0.5


def objective(**arm) -> Objective:
    return Objective(ArmConfig.model_validate({"alpha": 0.9, "teacher": "oracle", **arm}))


def gradient(of: Objective, teacher: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    sandbox = world()
    data = sandbox.batch(0, 0, 8)
    logits = torch.randn(8, 16, 12, generator=torch.Generator().manual_seed(2)).requires_grad_()
    labels = sandbox.labels(data.tokens, data.triggers)
    asked = Asked(labels, teacher, teacher, logits.log_softmax(-1), Moment(3, 10, 0), torch.ones(12))
    loss = of.loss(asked, data.next_tokens).total
    loss.backward()
    return loss.detach(), logits.grad


def test_routing_nothing_is_plain_distillation_and_routing_all_with_keep_1_is_standard_training_to_the_bit() -> None:
    sandbox = world()
    teacher = seen(sandbox).teacher_log_probs
    dpt, spt = gradient(objective(), teacher), gradient(objective(alpha=0.0, teacher=None), None)
    for signal in sorted(SIGNALS):
        nothing = objective(routing={"signal": signal, "quantile": 0.0, "keep": 1})
        everything = objective(routing={"signal": signal, "quantile": 1.0, "keep": 1})
        assert all(map(torch.equal, gradient(nothing, teacher), dpt)), signal
        assert all(map(torch.equal, gradient(everything, teacher), spt)), signal


def test_keep_sets_the_cross_entropy_of_routed_positions_and_nothing_else() -> None:
    sandbox = world()
    data = sandbox.batch(0, 0, 8)
    labels = sandbox.labels(data.tokens, data.triggers)
    law = Oracle(sandbox).log_probs(data.tokens, labels)
    asked = Asked(labels, law, law, torch.zeros_like(law).log_softmax(-1), Moment(0, 10, 0), torch.ones(12))
    for keep, kept in (("1-alpha", 0.1), (1, 1.0)):
        arm = objective(routing={"signal": "oracle-class", "keep": keep})
        weights = arm.weights(asked)
        assert torch.equal(weights.routed, labels.copyable)
        torch.testing.assert_close(weights.hard, torch.where(labels.copyable, kept, 0.1))
        torch.testing.assert_close(weights.soft, torch.where(labels.copyable, 0.0, 0.9))


def test_the_choice_among_ties_depends_on_the_step_and_seed_alone() -> None:
    sandbox = world()
    law = seen(sandbox).teacher_log_probs
    data = sandbox.batch(0, 0, 8)
    arm = objective(routing={"signal": "random", "quantile": 0.3})

    def routed(step: int, seed: int) -> torch.Tensor:
        asked = Asked(sandbox.labels(data.tokens), law, law, law, Moment(step, 10, seed), torch.ones(12))
        return arm.weights(asked).routed

    assert torch.equal(routed(3, 0), routed(3, 0))
    assert not torch.equal(routed(3, 0), routed(4, 0))
    assert not torch.equal(routed(3, 0), routed(3, 1))


def test_every_signal_documents_range_chance_and_source() -> None:
    for name, signal in SIGNALS.items():
        text = str(resolve(signal.implementation).__doc__)
        assert "[0" in text or "0 at" in text, name
        assert "chance" in text.lower(), name
        assert "Source" in text or "arXiv" in text, name
