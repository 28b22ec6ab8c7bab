import math

import pytest
import torch
from scipy.optimize import minimize_scalar

from mechdistill.config import ArmConfig
from mechdistill.errors import MechdistillError
from mechdistill.laws import forward_kl
from mechdistill.objective import Asked, Objective, matched_smoothing, optimal_alpha
from mechdistill.teachers import Bigram, Moment, Oracle
from tests.helpers import world


def objective(**arm) -> Objective:
    return Objective(ArmConfig.model_validate({"alpha": 0.9, "teacher": "t", **arm}))


def asked(sandbox=None, *, step: int = 0, steps: int = 10, teacher=Bigram, seed: int = 0) -> Asked:
    sandbox = sandbox or world()
    data = sandbox.batch(0, 0, 8)
    labels = sandbox.labels(data.tokens, data.triggers)
    law = teacher(sandbox).log_probs(data.tokens, labels) if teacher else None
    student = torch.randn(8, 16, 12, generator=torch.Generator().manual_seed(seed)).log_softmax(-1)
    return Asked(labels, law, law, student, Moment(step, steps, 0), torch.full((12,), 7.0))


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.9, [0.9] * 4),
        ({"kind": "linear", "start": 0.8, "end": 0.0}, [0.8, 0.6, 0.4, 0.2]),
        ({"kind": "cosine", "start": 1.0, "end": 0.0}, [0.5 * (1 + math.cos(math.pi * x / 4)) for x in range(4)]),
        ({"kind": "stages", "stages": [[0, 0.9], [0.5, 0.1]]}, [0.9, 0.9, 0.1, 0.1]),
    ],
)
def test_alpha_along_the_run(alpha, expected) -> None:
    found = [objective(alpha=alpha).alpha(asked(step=step, steps=4)) for step in range(4)]
    for values, value in zip(found, expected, strict=True):
        torch.testing.assert_close(values, torch.full((8, 16), value))


def test_alpha_and_ce_weights_by_occurrence_never_pool_first_and_later() -> None:
    at = asked()
    occurrence = at.labels.occurrence
    assert {0, 1, 2} <= set(occurrence.unique().tolist())
    by = {"kind": "by-occurrence", "ordinary": 0.9, "first": 0.5, "copyable": 0.0}
    expected = torch.where(occurrence == 0, 0.9, torch.where(occurrence == 1, 0.5, 0.0))
    torch.testing.assert_close(objective(alpha=by).alpha(at), expected)
    weights = objective(alpha=0.0, teacher=None, ce_weights={"copyable": 0.1, "first": 2}).weights(at)
    torch.testing.assert_close(weights.hard, torch.where(occurrence == 0, 1.0, torch.where(occurrence == 1, 2.0, 0.1)))
    assert (weights.soft == 0).all()


def test_spt_downweight_scales_the_gradient_of_copyable_positions_alone() -> None:
    sandbox = world()
    data = sandbox.batch(0, 0, 8)

    def gradient(arm: Objective) -> torch.Tensor:
        logits = torch.zeros(8, 16, 12, requires_grad=True)
        at = asked(sandbox, teacher=None)._replace(student_log_probs=logits.log_softmax(-1))
        arm.loss(at, data.next_tokens).total.backward()
        return logits.grad

    plain = gradient(objective(alpha=0.0, teacher=None))
    less = gradient(objective(alpha=0.0, teacher=None, ce_weights={"copyable": 0.1}))
    scale = torch.where(sandbox.labels(data.tokens).copyable, 0.1, 1.0)[..., None]
    torch.testing.assert_close(less, plain * scale)


def test_optimal_alpha_minimises_the_squared_error_of_a_table() -> None:
    """Against a search: E‖(1-a)·p̂_n + a·t - p‖² = (1-a)²·v/n + a²·b with n labels drawn from p."""
    generator = torch.Generator().manual_seed(3)
    law = (2 * torch.randn(1, 5, 6, generator=generator)).log_softmax(-1)
    target = (law + 0.3 * torch.randn(1, 5, 6, generator=generator)).log_softmax(-1)
    for visits in (1.0, 10.0, 300.0):
        found = optimal_alpha(law, target, torch.full((1, 5), visits))[0]
        for i in range(5):
            p, t = law[0, i].exp().double(), target[0, i].exp().double()
            v, b = float(1 - (p**2).sum()), float(((t - p) ** 2).sum())
            best = minimize_scalar(
                lambda a, v=v, b=b, n=visits: (1 - a) ** 2 * v / n + a**2 * b, bounds=(0, 1), method="bounded"
            )
            assert found[i].item() == pytest.approx(best.x, abs=1e-4)


def test_optimal_alpha_at_its_ends() -> None:
    law = torch.tensor([[[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]]).log()
    target = torch.tensor([[[0.5, 0.5, 0.0], [0.9, 0.1, 0.0], [1.0, 0.0, 0.0]]]).log()
    ten = torch.full((1, 3), 10.0)
    assert optimal_alpha(law, target, ten)[0].tolist() == [1.0, 0.0, 1.0]  # exact; certain label, false teacher; both
    assert (optimal_alpha(law, target, 0 * ten) == 1).all()  # nothing seen: only the teacher knows anything
    at = asked()
    arm = objective(alpha={"kind": "optimal"})
    torch.testing.assert_close(
        arm.alpha(at), optimal_alpha(at.labels.log_probs, at.teacher_log_probs, torch.full(at.labels.row.shape, 7.0))
    )
    assert (arm.alpha(at)[at.labels.copyable] == 0).all(), "a bigram teacher is wrong where the label is certain"


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9])
def test_the_target_is_where_the_expected_loss_is_smallest(alpha: float, smoothing: float) -> None:
    """The expected gradient, labels drawn from the oracle's law, vanishes at the target and nowhere else."""
    at = asked(world(triggers={"noise": 0.2}), teacher=Bigram if alpha else None)
    arm = objective(alpha=alpha, teacher="t" if alpha else None, label_smoothing=smoothing)
    target = arm.target(at, occurrence_is_visible=True)
    logits = target.clamp(min=-60).requires_grad_()
    q = logits.log_softmax(-1)
    labels = (1 - smoothing) * at.labels.log_probs.exp() + smoothing / 12
    loss = -(1 - alpha) * (labels * q).sum(-1)
    if alpha:
        loss = loss + alpha * forward_kl(at.teacher_log_probs, q)
    loss.sum().backward()
    assert logits.grad.abs().max() < 1e-5


def test_the_target_of_standard_training_is_the_oracle_to_the_bit_and_a_perfect_teacher_changes_nothing() -> None:
    at = asked(teacher=None)
    spt = objective(alpha=0.0, teacher=None)
    assert torch.equal(spt.target(at, occurrence_is_visible=True), at.labels.log_probs)
    at = asked(teacher=Oracle)
    target = objective().target(at, occurrence_is_visible=True)
    torch.testing.assert_close(target.exp(), at.labels.log_probs.exp())
    routed = objective(routing={"signal": "random", "quantile": 1.0})
    at = asked()
    assert torch.equal(routed.target(at, occurrence_is_visible=True), at.labels.log_probs), (
        "routed positions learn from labels alone"
    )


def test_no_target_is_claimed_where_the_mixture_is_not_the_minimum() -> None:
    at = asked()
    for arm in (
        objective(divergence="jsd"),
        objective(divergence="total-variation"),
        objective(temperature=2.0, soften="both"),
    ):
        assert arm.target(at, occurrence_is_visible=True) is None


def test_the_floor_of_random_routing_mixes_the_weights_that_a_position_can_expect() -> None:
    at = asked()
    for keep, kept in (("1-alpha", 0.1), (1, 1.0)):
        arm = objective(routing={"signal": "random", "quantile": 0.25, "keep": keep})
        hard, soft = 0.75 * 0.1 + 0.25 * kept, 0.75 * 0.9
        expected = (hard * at.labels.log_probs.exp() + soft * at.teacher_log_probs.exp()) / (hard + soft)
        torch.testing.assert_close(arm.target(at, occurrence_is_visible=True).exp(), expected)


def test_no_target_is_claimed_where_weights_depend_on_what_the_context_does_not_show() -> None:
    at = asked()
    for routing in (
        {"signal": "teacher-entropy", "quantile": 0.15},  # of the whole sequence
        {"signal": "student-entropy", "nats": 0.5},
        {"signal": "student-teacher-kl", "quantile": 0.5},
    ):
        assert objective(routing=routing).target(at, occurrence_is_visible=True) is None
    by_occurrence = (
        objective(alpha={"kind": "by-occurrence", "ordinary": 0.9, "first": 0.9, "copyable": 0.0}),
        objective(ce_weights={"copyable": 0.1}),
        objective(routing={"signal": "oracle-class"}),
    )
    for arm in by_occurrence:
        assert arm.target(at, occurrence_is_visible=False) is None
        assert arm.target(at, occurrence_is_visible=True) is not None
    assert objective().target(at, occurrence_is_visible=False) is not None


def test_signals_and_alpha_read_the_law_and_not_the_draws() -> None:
    at = asked(teacher=Oracle)
    draws = torch.where(torch.arange(12) == at.labels.log_probs.argmax(-1, keepdim=True), 0.0, -math.inf)
    drawn = at._replace(teacher_log_probs=draws)
    arm = objective(routing={"signal": "teacher-entropy", "quantile": 0.3}, alpha={"kind": "optimal"})
    for ours, theirs in zip(arm.weights(drawn), arm.weights(at), strict=True):
        assert torch.equal(ours, theirs)


def test_a_floor_under_the_divergence_changes_no_routing() -> None:
    at = asked(teacher=Oracle)
    arm = objective(
        divergence={"kind": "reverse-kl", "floor": 0.02}, routing={"signal": "teacher-entropy", "nats": 0.05}
    )
    weights, law = arm.weights(at), at.labels.log_probs
    assert weights.routed.any()
    p = 0.98 * law.exp() + 0.02 / 12
    q = at.student_log_probs.exp()
    soft = weights.soft * (q * (q / p).log()).sum(-1)
    hard = weights.hard * -at.student_log_probs[..., 0]
    next_tokens = torch.zeros(8, 16, dtype=torch.long)
    torch.testing.assert_close(arm.loss(at, next_tokens).total, (hard + soft).mean())


def test_matched_smoothing_is_as_far_from_the_truth_as_asked() -> None:
    law = asked().labels.log_probs
    for distance in (1e-5, 0.01, 0.3, 1.0):
        s = matched_smoothing([law], distance)
        target = torch.logaddexp(law + math.log1p(-s) if s < 1 else law, torch.full_like(law, math.log(s / 12 + 1e-38)))
        assert forward_kl(law, target).mean().item() == pytest.approx(distance, abs=1e-5)
    for distance in (0.0, -1e-9, 50.0, math.nan, math.inf):
        with pytest.raises(MechdistillError, match="must be between 1e-6 and"):
            matched_smoothing([law], distance)


def test_reverse_kl_against_a_teacher_that_excludes_tokens_is_refused_unless_floored() -> None:
    at = asked(teacher=Oracle)
    next_tokens = torch.zeros(8, 16, dtype=torch.long)
    with pytest.raises(MechdistillError, match=r"divergence=reverse-kl: infinite.*set divergence.floor"):
        objective(divergence="reverse-kl").loss(at, next_tokens)
    loss = objective(alpha=1.0, divergence={"kind": "reverse-kl", "floor": 1e-3}).loss(at, next_tokens)
    p = 0.999 * at.teacher_log_probs.exp() + 0.001 / 12
    q = at.student_log_probs.exp()
    torch.testing.assert_close(loss.total, (q * (q / p).log()).sum(-1).mean())
    assert objective(divergence={"kind": "jsd"}).loss(at, next_tokens).total.isfinite()


OPPOSITE = {"signal": "teacher-entropy", "tail": "high", "quantile": 0.75, "keep": 1}


@pytest.mark.parametrize("divergence", ["forward-kl", {"kind": "reverse-kl", "floor": 1e-4}])
def test_the_opposite_route_is_the_divergence_where_the_teacher_is_surest_and_labels_elsewhere(divergence) -> None:
    """4 of 16 positions a sequence, chosen by a plain sort; both ways to divide."""
    at = asked(seed=5)
    noise = torch.randn(8, 16, 12, generator=torch.Generator().manual_seed(6))
    teacher = (3 * noise).log_softmax(-1)  # no two positions alike, so that no tie has to be broken
    at = at._replace(teacher_log_probs=teacher, expected_log_probs=teacher)
    next_tokens = torch.randint(0, 12, (8, 16), generator=torch.Generator().manual_seed(7))
    p, q = teacher.exp(), at.student_log_probs.exp()
    entropy = -(p * p.log()).sum(-1)
    if divergence == "forward-kl":
        far = (p * (p / q).log()).sum(-1)
    else:
        mixed = (1 - 1e-4) * p + 1e-4 / 12
        far = (q * (q / mixed).log()).sum(-1)
    taught, labelled = [], []
    for i in range(8):
        surest = set(sorted(range(16), key=lambda j, i=i: entropy[i, j].item())[:4])
        for j in range(16):
            ce = -at.student_log_probs[i, j, next_tokens[i, j]]
            (taught if j in surest else labelled).append(far[i, j] if j in surest else ce)
    arm = {"alpha": 1.0, "divergence": divergence, "routing": OPPOSITE}
    every = objective(**arm).loss(at, next_tokens).total
    torch.testing.assert_close(every, (sum(taught) + sum(labelled)) / 128)
    own = objective(**arm, normalise="per-term").loss(at, next_tokens).total
    torch.testing.assert_close(own, sum(taught) / 32 + sum(labelled) / 96)


def test_omit_is_the_sum_of_cross_entropy_off_copyable_positions_over_all_of_them() -> None:
    sandbox = world()
    data = sandbox.batch(0, 0, 8)
    at = asked(sandbox, teacher=None)
    terms = [
        -at.student_log_probs[i, j, data.next_tokens[i, j]]
        for i in range(8)
        for j in range(16)
        if not at.labels.copyable[i, j]
    ]
    assert len(terms) < 128
    arm = {"alpha": 0.0, "teacher": None, "ce_weights": {"copyable": 0}}
    torch.testing.assert_close(objective(**arm).loss(at, data.next_tokens).total, sum(terms) / 128)
    own = objective(**arm, normalise="per-term").loss(at, data.next_tokens).total
    torch.testing.assert_close(own, sum(terms) / len(terms))


def test_the_target_where_each_term_has_its_own_mean() -> None:
    """Known where no position has both terms, or where so many are routed at random; nowhere else."""
    at = asked()
    labels, teacher = at.labels.log_probs.exp(), at.teacher_log_probs.exp()
    nats = {"signal": "teacher-entropy", "tail": "high", "nats": 1.0, "keep": 1}
    apart = objective(alpha=1.0, routing=nats, normalise="per-term")
    routed = (-(teacher * at.teacher_log_probs.clamp(min=-99)).sum(-1) >= 1.0)[..., None]
    assert 0 < routed.float().mean() < 1
    found = apart.target(at, occurrence_is_visible=True).exp()
    torch.testing.assert_close(found, torch.where(routed, labels, teacher))
    # at random: of n positions n/4 are routed, and a position that is expects 1/(n/4) of the labels' mean
    for alpha, keep in ((1.0, 1), (0.9, 1), (0.9, "1-alpha")):
        blind = {"signal": "random", "quantile": 0.25, "keep": keep}
        hard, soft = 0.75 * (1 - alpha) + 0.25 * (1 if keep == 1 else 1 - alpha), 0.75 * alpha
        hard = hard / 0.25 if alpha == 1 else hard
        soft = soft / 0.75
        expected = (hard * labels + soft * teacher) / (hard + soft)
        placebo = objective(alpha=alpha, routing=blind, normalise="per-term")
        torch.testing.assert_close(placebo.target(at, occurrence_is_visible=True).exp(), expected)
    for unknown in ({"routing": nats}, {"ce_weights": {"copyable": 0}}, {"alpha": 1.0, "routing": OPPOSITE}):
        assert objective(normalise="per-term", **unknown).target(at, occurrence_is_visible=True) is None
