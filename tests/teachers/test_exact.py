import math

import torch

from mechdistill import teachers
from tests.helpers import only, world
from tests.teachers.every import some_tokens


def test_the_oracle_and_the_bigram_know_what_they_say() -> None:
    sandbox = world(triggers={"noise": 0.1})
    tokens, labels = some_tokens(sandbox, 64)
    oracle = teachers.Oracle(sandbox).log_probs(tokens, labels)
    assert torch.equal(oracle, sandbox.law(tokens))
    bigram = teachers.Bigram(sandbox).log_probs(tokens, labels)
    ordinary = labels.occurrence == 0
    assert torch.equal(bigram[ordinary], oracle[ordinary])
    assert torch.equal(bigram, sandbox.log_pi[tokens]), "it never copies"


def test_the_oracle_does_not_know_which_tokens_are_triggers() -> None:
    sandbox = world(triggers=only(kind="bernoulli", rate=0.2))
    tokens, labels = some_tokens(sandbox)
    without = teachers.Oracle(sandbox).log_probs(tokens, sandbox.labels(tokens))
    assert torch.equal(without, teachers.Oracle(sandbox).log_probs(tokens, labels))


def test_uniform_is_uniform() -> None:
    tokens, labels = some_tokens(world())
    assert torch.equal(teachers.Uniform(12).log_probs(tokens, labels), torch.full((8, 16, 12), -math.log(12)))
