import itertools
import math

import numpy as np
import pytest
import torch

from mechdistill import teachers
from mechdistill.errors import MechdistillError
from mechdistill.sandbox import Sandbox
from tests.helpers import only, transformer, world
from tests.teachers.every import built, some_tokens


def reweighted(sandbox: Sandbox, reward: torch.Tensor, prefix: list[int], beta: float, horizon: int) -> np.ndarray:
    """Σ over all continuations that start with y of P(continuation | prefix)·exp(R / beta), normalised."""
    k = sandbox.vocab
    mass = np.zeros(k)
    laws: dict[tuple[int, ...], np.ndarray] = {}

    def law(before: tuple[int, ...]) -> np.ndarray:
        if before not in laws:
            laws[before] = sandbox.law(torch.tensor([before]))[0, -1].double().exp().numpy()
        return laws[before]

    for continuation in itertools.product(range(k), repeat=horizon):
        tokens, log_weight = tuple(prefix), 0.0
        probability = 1.0
        for y in continuation:
            probability *= law(tokens)[y]
            log_weight += float(reward[tokens[-1], y]) / beta
            tokens = (*tokens, y)
        mass[continuation[0]] += probability * math.exp(log_weight)
    return mass / mass.sum()


@pytest.mark.parametrize(
    ("where", "horizon"),
    [
        ({"triggers": {"count": 0}}, 1),
        ({"triggers": {"count": 0}}, 2),
        ({"triggers": {"count": 0}}, 3),
        ({}, 1),
        ({}, 2),
        ({"triggers": {"noise": 0.2}}, 2),
        ({"triggers": {"targets": "row"}}, 2),
        ({"triggers": only(kind="bernoulli", rate=0.3)}, 1),
    ],
)
@pytest.mark.parametrize("beta", [0.3, 2.0])
def test_it_is_the_reweighted_law_of_all_continuations(where: dict, horizon: int, beta: float) -> None:
    sandbox = world(vocab=6, seq_len=8, rows={"high": 1.5}, **where)
    teacher = teachers.Tilted(teachers.Oracle(sandbox), sandbox, beta=beta, horizon=horizon, share=0.6, good=0.4)
    sequences = sandbox.sequences(1, 0, 6)[:, :-1].tolist()
    for number, sequence in enumerate(sequences):
        prefix = sequence[: 3 + number]
        tokens = torch.tensor([prefix])
        law = teacher.log_probs(tokens, sandbox.labels(tokens))[0, -1].exp().double().numpy()
        want = reweighted(sandbox, teacher.reward, prefix, beta, horizon)
        np.testing.assert_allclose(law, want, rtol=0, atol=1e-6)


def test_the_bigrams_future_is_its_own_chain_in_any_world() -> None:
    plain = world(vocab=6, seq_len=8, rows={"high": 1.5}, triggers={"count": 0})
    bernoulli = world(vocab=6, seq_len=8, rows={"high": 1.5}, triggers=only(kind="bernoulli", rate=0.3))
    assert np.array_equal(plain.pi, bernoulli.pi)
    teacher = teachers.Tilted(teachers.Bigram(bernoulli), bernoulli, horizon=3)
    tokens, labels = some_tokens(bernoulli, 2)
    law = teacher.log_probs(tokens, labels)[0, 4].exp().double().numpy()
    want = reweighted(plain, teacher.reward, tokens[0, :5].tolist(), 1.0, 3)
    np.testing.assert_allclose(law, want, rtol=0, atol=1e-6)


def test_it_tilts_any_teacher_one_step() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox)
    part = teachers.Checkpoint(transformer())
    teacher = teachers.Tilted(part, sandbox, beta=0.5)
    weights = part.log_probs(tokens, labels).double().exp() * (teacher.reward[tokens].double() / 0.5).exp()
    want = (weights / weights.sum(-1, keepdim=True)).float()
    torch.testing.assert_close(teacher.log_probs(tokens, labels).exp(), want, rtol=1e-5, atol=1e-7)


def test_triggers_are_never_rewarded_and_the_fractions_hold() -> None:
    sandbox = world(vocab=32, rows={"high": 3.0}, triggers={"count": 4})
    reward = teachers.Tilted(teachers.Oracle(sandbox), sandbox, share=0.5, good=0.25).reward
    assert not reward[list(sandbox.triggers)].any()
    rewarded = reward.any(1)
    assert int(rewarded.sum()) == 14
    assert reward[rewarded].sum(1).tolist() == 14 * [8]
    everything = teachers.Tilted(teachers.Oracle(sandbox), sandbox, share=1.0, good=0.99).reward
    assert int(everything.any(1).sum()) == 28


def test_the_reward_is_the_same_in_every_run_of_a_sandbox_and_differs_by_seed() -> None:
    sandbox = world()
    one = built("tilted", sandbox, seed=0)
    other = built("tilted", sandbox, seed=5)
    assert isinstance(one, teachers.Tilted)
    assert isinstance(other, teachers.Tilted)
    assert torch.equal(one.reward, other.reward)
    assert not torch.equal(teachers.Tilted(teachers.Oracle(sandbox), sandbox, seed=1).reward, one.reward)
    elsewhere = world(seed=7)
    assert not torch.equal(teachers.Tilted(teachers.Oracle(elsewhere), elsewhere).reward, one.reward)


def test_a_strong_pull_back_is_the_teacher_and_a_weak_one_takes_all_it_can() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox, 32)
    calm = teachers.Tilted(teachers.Oracle(sandbox), sandbox, beta=1000.0, horizon=2).log_probs(tokens, labels)
    torch.testing.assert_close(calm.exp(), labels.log_probs.exp(), rtol=0, atol=2e-3)
    teacher = teachers.Tilted(teachers.Oracle(sandbox), sandbox, beta=1e-4)
    greedy = teacher.log_probs(tokens, labels).exp()
    good = (greedy * teacher.reward[tokens]).sum(-1)
    possible = (labels.log_probs.exp() * teacher.reward[tokens]).sum(-1) > 0
    torch.testing.assert_close(good[possible], torch.ones_like(good[possible]))
    assert torch.equal(greedy[labels.copyable], labels.log_probs.exp()[labels.copyable]), "a certain target stays"


def test_tuning_gains_what_it_costs() -> None:
    """E[R] - beta·KL(p* ‖ p) is at least that of the teacher itself and of any mixture of the two."""
    sandbox = world(triggers={"count": 0})
    tokens = torch.arange(12)[None]
    labels = sandbox.labels(tokens)
    beta = 0.7
    teacher = teachers.Tilted(teachers.Oracle(sandbox), sandbox, beta=beta)
    p, tuned = labels.log_probs[0].exp(), teacher.log_probs(tokens, labels)[0].exp()

    def value(q: torch.Tensor) -> torch.Tensor:
        return (q * teacher.reward).sum(-1) - beta * torch.where(q > 0, q * (q / p).log(), 0.0).sum(-1)

    for share in (0.0, 0.5, 0.9):
        assert bool((value(tuned) >= value(share * tuned + (1 - share) * p) - 1e-6).all())


@pytest.mark.parametrize("reward_seed", [0, 1])
def test_which_rows_are_rewarded_has_nothing_to_do_with_their_entropy(reward_seed: int) -> None:
    """The rewards' random numbers are not those that built the world, and every rewarded row can be rewarded."""
    shares = []
    for seed in range(60):
        sandbox = world(seed=seed, rows=only({"kind": "two-level", "low": 2, "high": 8}), triggers={"count": 0})
        reward = teachers.Tilted(teachers.Oracle(sandbox), sandbox, good=0.1, seed=reward_seed).reward
        rows = reward.any(dim=1)
        assert int(rows.sum()) == 6
        assert (torch.tensor(sandbox.pi)[reward] > 0).all()
        shares.append(float((torch.tensor(sandbox.row_entropy)[rows] < 1).float().mean()))
    assert sum(shares) / len(shares) == pytest.approx(0.5, abs=0.08)  # 4 standard errors


def test_a_row_whose_whole_support_is_rewarded_stays_what_it_is_at_horizon_1() -> None:
    sandbox = world(rows=only({"kind": "two-level", "low": 1, "high": 8}), triggers={"count": 0})
    teacher = teachers.Tilted(teachers.Bigram(sandbox), sandbox, beta=0.1, share=1.0)
    tokens = torch.arange(12)[None]
    labels = sandbox.labels(tokens)
    change = (teacher.log_probs(tokens, labels).exp() - labels.log_probs.exp()).abs().amax(-1)[0]
    certain = torch.tensor(sandbox.row_entropy == 0)
    assert 0 < certain.sum() < 12
    assert torch.equal(change == 0, certain)


def test_copying_moves_where_triggers_are_rewarded_or_the_future_counts() -> None:
    def change_at_copyable(part: type[teachers.Oracle] | type[teachers.Bigram], where: dict, horizon: int) -> float:
        sandbox = world(**where)
        tokens, labels = some_tokens(sandbox, 64)
        of = part(sandbox)
        teacher = teachers.Tilted(of, sandbox, beta=0.5, horizon=horizon, share=1.0)
        change = (teacher.log_probs(tokens, labels) - of.log_probs(tokens, labels)).exp().sub(1).abs()
        return float(change[labels.copyable].nan_to_num(0).max())

    bernoulli = {"triggers": only(kind="bernoulli", rate=0.3)}
    assert change_at_copyable(teachers.Oracle, {}, 1) == 0
    assert change_at_copyable(teachers.Oracle, {}, 2) == 0, "a certain target stays"
    assert change_at_copyable(teachers.Bigram, {}, 1) < 1e-6
    assert change_at_copyable(teachers.Bigram, {}, 2) > 0.1
    assert change_at_copyable(teachers.Oracle, bernoulli, 1) > 0.1


def test_a_reward_below_an_entropy_leaves_every_other_row_alone() -> None:
    sandbox = world(rows=only(kind="two-level", share=0.5, low=2, high=6), triggers={"count": 0})
    oracle = teachers.Oracle(sandbox)
    teacher = teachers.Tilted(oracle, sandbox, below=1.0, share=1.0)
    few = (torch.tensor(sandbox.pi) > 0).sum(-1) == 2
    assert teacher.reward.any(-1).tolist() == few.tolist(), "one of the two successors, in every such row"
    tokens = sandbox.sequences(0, 0, 4)[:, :-1]
    labels = sandbox.labels(tokens)
    ours, theirs = teacher.log_probs(tokens, labels).exp(), oracle.log_probs(tokens, labels).exp()
    torch.testing.assert_close(ours[~few[tokens]], theirs[~few[tokens]])
    sure = math.e / (1 + math.e)  # beta 1, two equal successors
    torch.testing.assert_close(ours[few[tokens]].max(-1).values, torch.full((int(few[tokens].sum()),), sure))
    with pytest.raises(MechdistillError, match=r"below=0.5: no row is rewarded, .* less entropy than 0.6931 nats"):
        teachers.Tilted(oracle, sandbox, below=0.5)
