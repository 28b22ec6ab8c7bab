import torch
from hypothesis import given
from hypothesis import strategies as st

from mechdistill import teachers
from mechdistill.teachers import everyone
from tests.helpers import transformer, world
from tests.teachers.every import Given, some_tokens


def test_an_ensemble_is_the_mean_of_probabilities() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox)
    parts = (teachers.Oracle(sandbox), teachers.Checkpoint(transformer()), teachers.Uniform(12))
    law = teachers.Ensemble(*parts).log_probs(tokens, labels)
    mean = torch.stack([part.log_probs(tokens, labels).exp() for part in parts]).mean(0)
    torch.testing.assert_close(law.exp(), mean)
    one_hot = Given([1.0] + 11 * [0.0])
    assert torch.equal(
        teachers.Ensemble(one_hot, one_hot).log_probs(tokens, labels), one_hot.log_probs(tokens, labels)
    ), "what all exclude stays excluded"


def test_the_mean_of_a_mixture_or_a_splice_is_that_of_its_parts() -> None:
    """Half soft and half its likeliest token, of which two tie: each is right half of the time."""
    sandbox = world()
    tokens, labels = some_tokens(sandbox, 32)
    soft = Given([0.4, 0.4, 0.2] + 9 * [0.0])
    hybrid = teachers.Ensemble(soft, teachers.TopK(soft, 1))
    law = hybrid.expected().log_probs(tokens, labels).exp()
    torch.testing.assert_close(law[0, 0, :4], torch.tensor([0.45, 0.45, 0.1, 0.0]))
    assert not hybrid.expected().changes
    drawn = hybrid.log_probs(tokens, labels).exp()
    assert {round(p, 4) for p in drawn[..., 0].flatten().tolist()} == {0.2, 0.7}
    splice = teachers.Splice(copyable=soft, elsewhere=hybrid)
    parts = torch.where(labels.copyable[..., None], soft.log_probs(tokens, labels).exp(), law)
    torch.testing.assert_close(splice.expected().log_probs(tokens, labels).exp(), parts)
    unknown = teachers.TopK(teachers.Sampled(soft, 2), 1)  # the head of a draw is not the head of the law
    assert teachers.Ensemble(soft, unknown).expected() is None
    deep = hybrid
    for _ in range(60):  # 2^60 paths
        deep = teachers.Ensemble(deep, deep)
    assert len(list(everyone(deep.expected()))) == 63


def test_a_splice_is_the_one_where_copying_is_possible_and_the_other_elsewhere() -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox, 32)
    one, other = teachers.Oracle(sandbox), teachers.Checkpoint(transformer())
    law = teachers.Splice(copyable=one, elsewhere=other).log_probs(tokens, labels)
    copyable = labels.occurrence >= 2
    assert 0 < copyable.sum() < copyable.numel()
    assert torch.equal(law[copyable], one.log_probs(tokens, labels)[copyable])
    assert torch.equal(law[~copyable], other.log_probs(tokens, labels)[~copyable])


@given(st.floats(0.01, 100))
def test_temperature_is_a_softmax_and_one_changes_nothing(temperature: float) -> None:
    sandbox = world()
    tokens, labels = some_tokens(sandbox)
    law = teachers.Temperature(teachers.Oracle(sandbox), temperature).log_probs(tokens, labels)
    want = (labels.log_probs.double() / temperature).softmax(-1)
    torch.testing.assert_close(law.exp(), want.float(), rtol=1e-4, atol=1e-6)
    assert torch.equal(law > -torch.inf, labels.log_probs > -torch.inf)
    assert torch.equal(teachers.Temperature(teachers.Oracle(sandbox), 1.0).log_probs(tokens, labels), labels.log_probs)


def test_an_extreme_temperature_is_the_limit_and_no_nan() -> None:
    tokens, labels = some_tokens(world())
    law = teachers.Temperature(Given([0.4, 0.4, 0.2, 0.0]), 1e-300).log_probs(tokens, labels)
    torch.testing.assert_close(law[0, 0].exp(), torch.tensor([0.5, 0.5, 0.0, 0.0]))
