import pytest
import torch

from mechdistill import teachers
from mechdistill.model import Bigram, Model
from tests.helpers import transformer, world
from tests.teachers.every import ENTRIES, Given, advanced, built, some_tokens, trained


def test_a_checkpoint_is_the_softmax_of_its_model_in_float32() -> None:
    tokens, labels = some_tokens(world())
    model = transformer()
    law = teachers.Checkpoint(model).log_probs(tokens, labels)
    assert torch.equal(law, model(tokens).log_softmax(-1))
    half = teachers.Checkpoint(transformer().bfloat16()).log_probs(tokens, labels)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.exp().sum(-1), torch.ones(8, 16), rtol=0, atol=1e-6)


def test_a_checkpoint_keeps_what_the_model_was_and_leaves_the_model_alone() -> None:
    tokens, labels = some_tokens(world())
    model = transformer().requires_grad_(True).train()
    heard: list[str] = []
    model.add_hook("hook_embed", lambda value, hook: heard.append(hook.name))
    teacher = teachers.Checkpoint(model)
    before = teacher.log_probs(tokens, labels)
    with torch.no_grad():
        model.W_U.add_(1.0)
    assert torch.equal(teacher.log_probs(tokens, labels), before)
    assert not heard
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    model(tokens)
    assert heard == ["hook_embed"]


def test_an_untrained_table_is_at_chance() -> None:
    tokens, labels = some_tokens(world())
    law = teachers.Checkpoint(Bigram(d_vocab=12, n_ctx=16)).log_probs(tokens, labels)
    torch.testing.assert_close(law.exp(), torch.full_like(law, 1 / 12))


@pytest.mark.parametrize("steps", [8, 10, 100, 997])
def test_progressive_switches_exactly_at_its_fractions(steps: int) -> None:
    stages = [(0.0, 0), (0.1, 1), (0.3, 2), (0.75, 3)]
    teacher = teachers.Progressive([(start, Given([i == j for j in range(4)])) for start, i in stages])
    tokens = torch.zeros(1, 1, dtype=torch.long)
    labels = world().labels(tokens)
    tenths = [0, steps, 3 * steps, 7.5 * steps]
    for step in range(steps + 1):
        advanced(teacher, step, steps=steps)
        stage = int(teacher.log_probs(tokens, labels)[0, 0].argmax())
        assert stage == sum(10 * step >= start for start in tenths) - 1


def test_progressive_opens_each_checkpoint_of_its_teacher_once() -> None:
    opened: list[tuple[str, float]] = []

    def counting(name: str, fraction: float) -> Model:
        opened.append((name, fraction))
        return trained(name, fraction)

    entry = {"kind": "progressive", "of": "checkpoint", "stages": [[0.0, 0.2], [0.25, 0.6], [0.5, 0.2]]}
    teacher = built("x", entries=ENTRIES | {"x": entry}, trained=counting)
    assert sorted(opened) == [("checkpoint", 0.2), ("checkpoint", 0.6), ("checkpoint", 1.0)]
    assert teacher.parts[0] is teacher.parts[2]
    tokens, labels = some_tokens(world())
    for step, fraction in ((0, 0.2), (24, 0.2), (25, 0.6), (49, 0.6), (50, 0.2), (100, 0.2)):
        want = trained("checkpoint", fraction)(tokens).log_softmax(-1)
        assert torch.equal(advanced(teacher, step).log_probs(tokens, labels), want)
