import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save

from mechdistill import teachers
from mechdistill.model import Bigram, Model
from mechdistill.teachers import Moment
from tests.helpers import transformer, world
from tests.teachers.every import some_tokens

MODELS = {
    "transformer": transformer,
    "tied-rotary": lambda **kw: transformer(tied=True, positions="rotary", n_kv_heads=1, **kw),
    "bigram": lambda seed=0: drawn(Bigram(d_vocab=12, n_ctx=16), seed),
}


def drawn(model: Model, seed: int) -> Model:
    """The model with other weights, as after an optimiser step."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(seed))
    return model


@pytest.mark.parametrize("kind", MODELS)
@given(decay=st.floats(0, 0.999), evaluations=st.lists(st.integers(1, 3), min_size=2, max_size=6))
def test_it_is_the_closed_form_average_however_often_it_is_asked(
    kind: str, decay: float, evaluations: list[int]
) -> None:
    student, ema = MODELS[kind](), teachers.Ema(decay)
    visited = []
    for step, calls in enumerate(evaluations):
        if step:
            drawn(student, step)
        visited.append({name: tensor.double() for name, tensor in student.state_dict().items()})
        for _ in range(calls):
            ema.advance(Moment(step, 10, 0), student)
    last = len(visited) - 1
    weights = [decay**last] + [(1 - decay) * decay ** (last - s) for s in range(1, last + 1)]
    average = {name: sum(w * seen[name] for w, seen in zip(weights, visited, strict=True)) for name in visited[0]}
    state = ema.state()
    for name, tensor in average.items():
        torch.testing.assert_close(state[f"weight.{name}"].double(), tensor, rtol=1e-4, atol=1e-5)
    tokens, labels = some_tokens(world())
    mean_model = MODELS[kind]()
    mean_model.load_state_dict({name: tensor.float() for name, tensor in average.items()})
    with torch.no_grad():
        want = mean_model(tokens).log_softmax(-1)
    torch.testing.assert_close(ema.log_probs(tokens, labels), want, rtol=1e-3, atol=1e-3)


def test_at_the_first_step_and_without_memory_it_is_the_student() -> None:
    tokens, labels = some_tokens(world())
    student = transformer()
    slow, none = teachers.Ema(0.99), teachers.Ema(0.0)
    for ema in (slow, none):
        ema.advance(Moment(0, 10, 0), student)
        assert torch.equal(ema.log_probs(tokens, labels), student(tokens).log_softmax(-1))
    drawn(student, 1)
    for ema in (slow, none):
        ema.advance(Moment(1, 10, 0), student)
    assert torch.equal(none.log_probs(tokens, labels), student(tokens).log_softmax(-1))
    assert not torch.equal(slow.log_probs(tokens, labels), student(tokens).log_softmax(-1))
    slow.advance(Moment(0, 10, 0), student)  # a run from its start
    assert torch.equal(slow.log_probs(tokens, labels), student(tokens).log_softmax(-1))


def test_the_student_feels_nothing() -> None:
    student = transformer().requires_grad_(True).train()
    heard: list[str] = []
    student.add_hook("hook_embed", lambda value, hook: heard.append(hook.name), is_permanent=True)
    ema = teachers.Ema(0.5)
    tokens, labels = some_tokens(world())
    for step in range(2):
        ema.advance(Moment(step, 10, 0), student)
    law = ema.log_probs(tokens, labels)
    assert not law.requires_grad
    assert not heard
    assert student.training
    assert all(p.requires_grad and p.grad is None for p in student.parameters())
    student(tokens)
    assert heard == ["hook_embed"]


@pytest.mark.parametrize("kind", MODELS)
def test_resuming_goes_on_to_the_bit(kind: str) -> None:
    tokens, labels = some_tokens(world())
    student, straight = MODELS[kind](), teachers.Ema(0.9)
    for step in range(4):
        drawn(student, step)
        straight.advance(Moment(step, 10, 0), student)
    stored = save(straight.state())
    resumed = teachers.Ema(0.9)
    resumed.restore(load(stored))
    assert save(resumed.state()) == stored
    for step in (3, 4, 5):  # 3 was seen before it was stored
        drawn(student, step)
        for ema in (straight, resumed):
            ema.advance(Moment(step, 10, 0), student)
        assert torch.equal(resumed.log_probs(tokens, labels), straight.log_probs(tokens, labels))
    assert save(resumed.state()) == save(straight.state())
    assert save(straight.state()) != stored


def test_what_was_stored_does_not_change_with_later_steps() -> None:
    student, ema = transformer(), teachers.Ema(0.5)
    ema.advance(Moment(0, 10, 0), student)
    state = ema.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    drawn(student, 1)
    ema.advance(Moment(1, 10, 0), student)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.items())


def test_it_has_no_law_before_it_has_a_student() -> None:
    tokens, labels = some_tokens(world())
    with pytest.raises(RuntimeError, match="call advance"):
        teachers.Ema().log_probs(tokens, labels)
