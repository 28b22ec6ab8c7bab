import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from mechdistill import teachers
from mechdistill.teachers import Moment, Teacher
from mechdistill.teachers._drawn import inverse_cdf
from tests.helpers import transformer, world
from tests.teachers.every import Given, advanced, built, some_tokens


def laws(teacher: Teacher, steps: int, sequences: int = 4) -> torch.Tensor:
    """[step, batch, pos, vocab]: probabilities over the steps of a run."""
    tokens, labels = some_tokens(world(), sequences)
    return torch.stack([advanced(teacher, step).log_probs(tokens, labels).exp() for step in range(steps)])


@pytest.mark.parametrize("n", [1, 3, 64])
def test_sampled_is_n_labels_and_unbiased(n: int) -> None:
    sandbox, steps = world(), 800
    labels = some_tokens(sandbox, 4)[1]
    drawn = laws(teachers.Sampled(teachers.Oracle(sandbox), n), steps).double()
    counts = drawn * n
    torch.testing.assert_close(counts, counts.round(), rtol=0, atol=1e-5)
    torch.testing.assert_close(counts.sum(-1), torch.full(drawn.shape[:-1], float(n), dtype=torch.float64))
    p = labels.log_probs.exp().double()
    assert bool((drawn[:, p == 0] == 0).all()), "what is excluded is never drawn"
    z = (drawn.mean(0) - p) / (p * (1 - p) / (n * steps)).sqrt()
    z = z[(p * n * steps > 20) & (p < 1)]
    assert float(z.abs().max()) < 5
    assert float(z.square().mean()) == pytest.approx(1, abs=0.25), "neither biased nor correlated over steps"


def test_one_sample_of_the_oracle_is_a_label() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox, 64)
    law = teachers.Sampled(teachers.Oracle(sandbox), 1).log_probs(tokens, labels)
    assert set(law.unique().tolist()) == {0.0, -math.inf}
    copyable = labels.copyable
    assert torch.equal(law[copyable], labels.log_probs[copyable]), "and the right one where there is one"


def test_draws_are_a_teachers_own_but_twins_share_them() -> None:
    sandbox = world()
    oracle, bigram = teachers.Oracle(sandbox), teachers.Uniform(12)
    a, b, again = (
        laws(teachers.Sampled(bigram, 5), 3),
        laws(teachers.Sampled(bigram, 6), 3),
        teachers.Sampled(bigram, 5),
    )
    assert torch.equal(a, laws(again, 3))
    assert not torch.equal(a * 5, (b * 6).clamp(max=5))
    tokens, labels = some_tokens(sandbox, 4)
    single = teachers.Sampled(teachers.Uniform(12), 1), teachers.Sampled(teachers.Temperature(oracle, 1e9), 1)
    one, other = (advanced(t).log_probs(tokens, labels) for t in single)
    agreement = float((one.argmax(-1) == other.argmax(-1)).float().mean())
    assert agreement < 0.4, "two teachers of nearly the same law draw on their own"
    ensemble = teachers.Ensemble(again, teachers.Sampled(bigram, 6))
    assert ensemble.changes


@pytest.mark.parametrize("entry", [{"kind": "sampled", "n": 1}, {"kind": "top-k", "k": 1}])
def test_two_entries_draw_on_their_own_and_one_the_same_everywhere(entry: dict) -> None:
    entries = {
        "uniform": {"kind": "uniform"},
        "a": entry | {"of": "uniform"},
        "b": entry | {"of": "uniform"},
        "both": {"kind": "ensemble", "of": ["a", "b"]},
    }
    tokens, labels = some_tokens(world())
    both = advanced(built("both", entries=entries), 3)
    tokens_with_mass = (both.log_probs(tokens, labels) > -math.inf).sum(-1)
    assert float((tokens_with_mass == 2).float().mean()) == pytest.approx(11 / 12, abs=0.1), "two samples, not one"
    a, again = (advanced(t, 3).log_probs(tokens, labels) for t in (both.parts[0], built("a", entries=entries)))
    assert torch.equal(a, again), "the same entry of another arm"


def test_what_is_excluded_is_never_drawn() -> None:
    p = [0.0, 0.3, 0.0, 1e-6, 0.0, 0.7 - 1e-6, 0.0, 0.0]
    tokens, labels = some_tokens(world())
    drawn = teachers.Sampled(Given(p), 8192).log_probs(tokens, labels).exp()
    assert drawn[..., 3].sum() > 0, "over a million draws the rarest is among them"
    assert bool((drawn[..., [0, 2, 4, 6, 7]] == 0).all())


@given(
    st.lists(st.sampled_from([0.0, 1e-30, 1e-8, 0.1, 0.7, 1.0]), min_size=1, max_size=9).filter(any),
    st.lists(st.floats(0, 1) | st.sampled_from([0.0, 2.0**-53, 1 - 2.0**-53, 1.0]), min_size=1, max_size=5),
)
@example([0.0, 0.5, 0.0], [0.0, 1.0])
def test_inverse_cdf_is_the_first_token_above_and_no_impossible_one_at_the_ends(
    weights: list[float], uniform: list[float]
) -> None:
    probs = torch.tensor(weights).expand(1, 1, -1)
    got = inverse_cdf(probs, torch.tensor(uniform, dtype=torch.float64).expand(1, 1, -1))[0, 0].tolist()
    exact = probs[0, 0].double().numpy()
    for u, token in zip(uniform, got, strict=True):
        assert exact[token] > 0
        cumulative = np.cumsum(exact)
        assert cumulative[token] >= u * cumulative[-1] >= cumulative[token] - exact[token] - 1e-15


@pytest.mark.parametrize("draw", [lambda part: teachers.Sampled(part, 3), lambda part: teachers.TopK(part, 3)])
def test_a_batch_in_two_parts_draws_what_the_whole_does(draw: Callable[[Teacher], Teacher]) -> None:
    sandbox = world()
    tokens = some_tokens(sandbox)[0]
    teacher = draw(teachers.Uniform(12))
    advanced(teacher, 7)
    whole = teacher.log_probs(tokens, sandbox.labels(tokens))
    advanced(teacher, 7)
    parts = [teacher.log_probs(part, sandbox.labels(part)) for part in (tokens[:3], tokens[3:])]
    assert torch.equal(whole, torch.cat(parts))


def test_every_call_at_a_moment_draws_afresh_and_none_changes_another_moments() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox)
    teacher = teachers.Sampled(teachers.Bigram(sandbox), 2)
    first = advanced(teacher, 5).log_probs(tokens, labels)
    second = teacher.log_probs(tokens, labels)
    assert not torch.equal(first, second), "the parts of a batch are drawn independently"
    assert torch.equal(advanced(teacher, 5).log_probs(tokens, labels), first)
    assert not torch.equal(advanced(teacher, 5, seed=1).log_probs(tokens, labels), first)
    fresh = teachers.Sampled(teachers.Bigram(sandbox), 2)
    assert torch.equal(fresh.log_probs(tokens, labels), advanced(teacher, 0).log_probs(tokens, labels))


@given(st.lists(st.floats(1e-4, 1), min_size=2, max_size=9), st.integers(1, 12))
def test_top_k_keeps_the_likeliest_and_does_with_the_rest_what_it_says(weights: list[float], k: int) -> None:
    p = torch.tensor(weights, dtype=torch.float64)
    p = (p / p.sum()).float()
    part, vocab = Given(p), len(weights)
    tokens = torch.zeros(1, 1, dtype=torch.long)
    labels = world().labels(tokens)
    law = part.log_probs(tokens, labels)[0, 0]
    cut = teachers.TopK(part, k).log_probs(tokens, labels)[0, 0]
    bucket = teachers.TopK(part, k, tail="bucket").log_probs(tokens, labels)[0, 0]
    if k >= vocab:
        assert torch.equal(cut, law)
        assert torch.equal(bucket, law)
        return
    kept = cut > -math.inf
    assert int(kept.sum()) == k
    assert float(law[kept].min()) >= float(law[~kept].max())
    torch.testing.assert_close(cut[kept].exp(), (p / p[kept].sum())[kept])
    head = bucket == law  # kept to the bit
    assert int(head.sum()) >= k
    ascending = p.sort().values
    share = ascending[: vocab - k].mean()  # of no more than the least of the head
    torch.testing.assert_close(bucket.exp().sort().values, torch.cat((share.repeat(vocab - k), ascending[vocab - k :])))


@pytest.mark.parametrize("tail", ["renormalise", "bucket"])
def test_what_is_excluded_is_not_kept_and_an_empty_rest_is_not_shared(tail: str) -> None:
    part = Given([0.0, 0.7, 0.0, 0.3, 0.0])
    tokens = torch.zeros(1, 1, dtype=torch.long)
    labels = world().labels(tokens)
    for k in (2, 3, 4):
        law = teachers.TopK(part, k, tail=tail).log_probs(tokens, labels)
        torch.testing.assert_close(law[0, 0], part.log_probs(tokens, labels)[0, 0])
    law = teachers.TopK(part, 1, tail=tail).log_probs(tokens, labels)[0, 0].exp()
    want = [0.0, 1.0, 0.0, 0.0, 0.0] if tail == "renormalise" else [0.075, 0.7, 0.075, 0.075, 0.075]
    torch.testing.assert_close(law, torch.tensor(want))


def test_ties_for_the_last_places_have_no_favourites() -> None:
    steps = 400
    drawn = laws(teachers.TopK(teachers.Uniform(12), 3), steps)
    kept = (drawn > 0).double()
    assert bool((kept.sum(-1) == 3).all())
    positions = drawn.shape[1] * drawn.shape[2]
    z = (kept.mean((0, 1, 2)) - 0.25) / math.sqrt(0.25 * 0.75 / (steps * positions))
    assert float(z.abs().max()) < 4.5, "no token is favoured"
    by_position = (kept.mean(0) - 0.25) / math.sqrt(0.25 * 0.75 / steps)
    assert float(by_position.abs().max()) < 5, "nor at any position"
    p = [0.3, 0.2, 0.2, 0.2, 0.1]
    drawn = laws(teachers.TopK(Given(p), 2), 50)
    assert bool((drawn[..., 0] > 0).all())
    assert bool((drawn[..., 4] == 0).all())


@pytest.mark.parametrize("tail", ["renormalise", "bucket"])
def test_mean_ties_are_the_mean_over_random_ones(tail: str) -> None:
    part = Given([0.3, 0.2, 0.2, 0.2, 0.1])
    teacher = teachers.TopK(part, 2, tail=tail)
    mean = teacher.expected()
    assert isinstance(mean, teachers.TopK)
    assert not mean.changes
    assert mean.id != teacher.id
    exact = laws(mean, 1)[0, 0, 0]
    torch.testing.assert_close(exact.sum(), torch.tensor(1.0))
    torch.testing.assert_close(laws(teacher, 400, sequences=16).mean((0, 1, 2)), exact, rtol=0, atol=3e-3)
    sampled = teachers.Sampled(part, 2)
    assert teachers.Sampled(teacher, 3).expected().id == mean.id
    assert teachers.TopK(sampled, 2).expected() is None, "the head of a draw is not the head of the law"


def test_an_oracles_top_one_is_its_best_guess() -> None:
    sandbox = world(triggers={"noise": 0.1})
    tokens, labels = some_tokens(sandbox, 32)
    top = teachers.TopK(teachers.Oracle(sandbox), 1).log_probs(tokens, labels)
    best = labels.log_probs.gather(-1, top.argmax(-1, keepdim=True))[..., 0]
    assert torch.equal(best, labels.log_probs.amax(-1))


def test_a_bucket_stays_near_a_zipf_law_that_renormalising_loses() -> None:
    p = 1 / torch.arange(1, 201, dtype=torch.float64)
    p = (p / p.sum()).float()
    tokens = torch.zeros(1, 1, dtype=torch.long)
    labels = world().labels(tokens)
    bucket = teachers.TopK(Given(p), 12, tail="bucket").log_probs(tokens, labels)[0, 0]
    assert float((p * (p.log() - bucket)).sum()) == pytest.approx(0.143, abs=1e-3)
    cut = teachers.TopK(Given(p), 12).log_probs(tokens, labels)[0, 0]
    assert float(cut.exp()[12:].sum()) == 0


def test_draws_follow_a_changing_teacher() -> None:
    teacher = teachers.TopK(teachers.Ema(0.5), 2, ties="mean")
    assert teacher.changes
    student = transformer()
    for one in teachers.everyone(teacher):
        one.advance(Moment(0, 10, 0), student)
    tokens, labels = some_tokens(world())
    assert int((teacher.log_probs(tokens, labels) > -math.inf).sum(-1).max()) == 2
