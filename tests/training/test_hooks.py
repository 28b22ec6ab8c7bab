"""What hangs on the loop: hooks at the right steps, also after resume, and interventions that go when the step does."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from mechdistill.ambient import neutral
from mechdistill.config import RunConfig, expand
from mechdistill.model import Model, build
from mechdistill.runs import Run, RunWriter
from mechdistill.sandbox import Sandbox
from mechdistill.training._hooks import Hook, every
from mechdistill.training._loop import Interrupted, train_run
from mechdistill.training._optimiser import optimiser
from mechdistill.training._trainer import Trainer
from tests.helpers import micro, only

Z = "blocks.1.attn.hook_z"


def a_run(**changes: Any) -> RunConfig:
    arms = changes.pop("arms", {"x": {}})
    return expand(micro(arms=only(arms), **changes))[-1]


def trained(config: RunConfig, out: Path, *hooks: Hook, stop_after: int | None = None, **about: Any) -> Trainer:
    """Trains, or goes on, and is interrupted after so many steps of this session."""
    left = iter(range(10**9 if stop_after is None else stop_after))
    with neutral():
        trainer = Trainer(config, RunWriter(out, config), "cpu", **about)
        train_run(trainer, lambda _: None, lambda: next(left, None) is None, hooks)
    return trainer


def weights(trainer: Trainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@contextmanager
def no_heads(model: Model, step: int) -> Generator[None]:
    """The second layer's heads write nothing."""
    with model.hooks(fwd_hooks=[(Z, lambda z, hook: torch.zeros_like(z))]):
        yield


def test_a_hook_sees_the_start_every_so_many_steps_and_the_end(tmp_path: Path) -> None:
    seen: list[int] = []
    plain = trained(a_run(), tmp_path / "plain")
    looked = trained(a_run(), tmp_path / "looked", every(7, lambda trainer: seen.append(trainer.step)))
    assert seen == [0, 7, 14, 21, 24]
    assert same(weights(plain), weights(looked))


def test_a_hook_sees_weights_that_the_step_has_made(tmp_path: Path) -> None:
    """And those are the ones that are stored: it comes after the run's own checkpoints."""
    stored: list[bool] = []

    def look(trainer: Trainer) -> None:
        stored.append((trainer.writer.path / f"checkpoints/step-{trainer.step:08}.safetensors").exists())

    trained(a_run(), tmp_path, every(6, look))
    assert stored == [True] * 5


@pytest.mark.parametrize("after", [3, 12, 13])
def test_after_resume_a_hook_sees_the_steps_that_are_left(tmp_path: Path, after: int) -> None:
    seen: list[int] = []
    look = every(4, lambda trainer: seen.append(trainer.step))
    with pytest.raises(Interrupted):
        trained(a_run(), tmp_path, look, stop_after=after)
    trained(a_run(), tmp_path, look)
    assert seen == [0, 4, 8, 12, 16, 20, 24], "each once, since the interrupted session stored its last state"


def test_after_a_kill_a_hook_misses_no_step_and_sees_again_what_was_not_stored(tmp_path: Path) -> None:
    seen: list[tuple[int, float]] = []

    def look(trainer: Trainer) -> None:
        seen.append((trainer.step, float(trainer.model.W_E.detach().sum())))
        if len(seen) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(a_run(), tmp_path, every(1, look))
    trained(a_run(), tmp_path, every(1, look))
    steps = [step for step, _ in seen]
    assert steps == [*range(10), *range(7, 25)], "the state of step 6 was the last one stored"
    assert seen[7:10] == seen[10:13], "the same bits again"


def test_a_hook_may_log_what_it_finds(tmp_path: Path) -> None:
    row = {"metric": "mine", "value": 0.5}
    trained(a_run(), tmp_path, every(10, lambda trainer: trainer.log([row])))
    found = Run(tmp_path / "x/seed-0").metrics().query("metric == 'mine'")
    assert found["step"].tolist() == [0, 10, 20, 24]
    assert found["tokens"].tolist() == [0, 640, 1280, 1536]


def hand_made(config: RunConfig, steps: int, inside: Callable[[Model, int], Any]) -> list[torch.Tensor]:
    """Torch alone: a step of plain training, the forward pass inside a context."""
    sandbox = Sandbox(config.sandbox)
    model = build(config.model, d_vocab=12, n_ctx=16, init_seed=config.init_seed)
    steps_of = optimiser(model, config.training)
    for step in range(steps):
        sequences = sandbox.sequences(config.data_seed, step * 4, 4)
        with inside(model, step):
            logits = model(sequences[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in steps_of.param_groups:
            group["lr"] = config.training.lr * (step + 1) / config.training.warmup
        steps_of.step()
        steps_of.zero_grad()
    return list(model.parameters())


def test_an_intervention_changes_the_step_that_it_is_in(tmp_path: Path) -> None:
    """Only the second step's heads are silent; a plain loop with a hook of its own gives the same weights."""

    @contextmanager
    def second(model: Model, step: int) -> Generator[None]:
        with no_heads(model, step) if step == 1 else model.hooks():
            yield

    config = a_run()
    with neutral():
        trainer = Trainer(config, RunWriter(tmp_path, config), "cpu", interventions=[second])
        plain = Trainer(config, RunWriter(tmp_path, config), "cpu")
        for each in (trainer, plain):
            each.train_step()
        assert same(weights(trainer), weights(plain))
        for each in (trainer, plain):
            each.train_step()
        assert not same(weights(trainer), weights(plain))
        for ours, theirs in zip(weights(trainer), hand_made(config, 2, second), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_no_gradient_reaches_what_an_intervention_cuts_off(tmp_path: Path) -> None:
    config = a_run(training={"weight_decay": 0.0})
    trainer = Trainer(config, RunWriter(tmp_path, config), "cpu", interventions=[no_heads])
    before = trainer.model.blocks[1].attn.W_QKV.clone()
    trainer.train_step()
    assert torch.equal(trainer.model.blocks[1].attn.W_QKV, before)
    assert trainer.model.blocks[0].attn.W_QKV.grad is None, "gradients do not pile up"


def test_evaluations_and_teachers_are_outside_of_interventions(tmp_path: Path) -> None:
    """An ema teacher is a copy of the student, made inside the first step: it must not take the student's hooks."""
    config = a_run(teachers={"self": {"kind": "ema", "decay": 0.5}}, arms={"x": {"alpha": 0.9, "teacher": "self"}})
    calls: list[tuple[int, int]] = []

    @contextmanager
    def counted(model: Model, step: int) -> Generator[None]:
        with model.hooks(fwd_hooks=[(Z, lambda z, hook: calls.append((step, len(z))))]):
            yield

    trained(config, tmp_path, interventions=[counted])
    assert calls == [(step, 4) for step in range(24)], "once a step, on its batch alone"


def test_an_intervention_is_gone_afterwards_even_when_the_step_raises(tmp_path: Path) -> None:
    config = a_run()

    def broken(model: Model, step: int) -> Any:
        def fail(z: torch.Tensor, hook: Any) -> None:
            raise ZeroDivisionError

        return model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", fail)])

    trainer = Trainer(config, RunWriter(tmp_path, config), "cpu", interventions=[no_heads, broken])
    tokens = trainer.data.batch(0, 4).tokens
    before = trainer.model(tokens)
    with pytest.raises(ZeroDivisionError):
        trainer.train_step()
    assert trainer.step == 0
    assert torch.equal(trainer.model(tokens), before)
    assert not any(point.fwd_hooks for point in trainer.model.hook_dict.values())
