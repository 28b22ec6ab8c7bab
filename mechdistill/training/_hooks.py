"""What is done while a run trains, besides training it: looking, storing, saying. Each is a hook, which the loop calls.

To add one: a function of the trainer, and when it is due, like `every(100, look)`; hand it to `train_run`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mechdistill.config import RunConfig
from mechdistill.tables import LATER, metrics
from mechdistill.training._trainer import Trainer


class Hook(NamedTuple):
    """Something to do at some steps of a run."""

    do: Callable[[Trainer], None]
    due: Callable[[Trainer], bool]
    """Whether this state, which a step has just led to, is one of them."""
    at_start: bool = False
    """Whether the state in which the run starts is one; a session that goes on does not start."""


def every(steps: int, do: Callable[[Trainer], None]) -> Hook:
    """At the start, whenever the number of steps taken is a multiple of `steps`, and at the end.

    A killed run goes on from its last stored state, so that hooks see the steps after that one again, with the same
    bits; they miss none.
    """
    return Hook(do, lambda trainer: trainer.done or trainer.step % steps == 0, at_start=True)


# what a run directory is made of, in the order in which it is written


def targets() -> Hook:
    """Store what the run is taught, row by row, before it learns any of it."""

    def store(trainer: Trainer) -> None:
        table = trainer.distillation.describe_targets(trainer.step, trainer.model)
        if table is not None:
            trainer.writer.write_targets(table)

    return Hook(store, due=lambda _: False, at_start=True)


def evaluations(config: RunConfig) -> Hook:
    """Log metrics of training batches and held-out sequences, and where a run that has an `until` has stopped.

    Where copying has moved since the last evaluation, the burst of weights between the two is stored.
    """

    def evaluate(trainer: Trainer) -> None:
        trainer.refuse_non_finite()
        stopped = [metrics.STOPPED_AT.row(value, occurrence=LATER) for value in (trainer.reached or {}).values()]
        training, held_out = trainer.take_training_rows(), trainer.held_out()
        trainer.log(training + held_out + stopped)
        trainer.refuse_exploded(held_out)
        if trainer.burst is not None:
            for step, weights in trainer.burst.take(held_out).items():
                trainer.writer.checkpoint(step, weights)

    return every(config.training.evaluate_every, evaluate)


def looks() -> Hook:
    """See whether the run has reached its `until`: this step is its last then."""

    def look(trainer: Trainer) -> None:
        if trainer.until is not None:
            trainer.reached = trainer.until.reached(trainer.model, trainer.step)

    return Hook(look, lambda trainer: trainer.until is not None and trainer.step >= trainer.until.next_look)


def bursts(config: RunConfig) -> Hook:
    """Hold weights until the next evaluation, where no checkpoint is due that stores them anyway."""
    burst, regular = config.training.burst, checkpoints(config)

    def hold(trainer: Trainer) -> None:
        assert trainer.burst is not None
        trainer.burst.hold(trainer.step, trainer.model.state_dict())

    def due(trainer: Trainer) -> bool:
        return burst is not None and trainer.step % burst.every == 0 and not regular.due(trainer)

    return Hook(hold, due)


def checkpoints(config: RunConfig) -> Hook:
    """Store weights every so often, and early on at powers of two, where most changes: see `checkpoints_near`."""
    regular = every(config.training.checkpoint_every, _checkpoint)
    return regular._replace(due=lambda trainer: regular.due(trainer) or trainer.step & (trainer.step - 1) == 0)


def checkpoints_near(config: RunConfig, step: float) -> list[int]:
    """Steps around this one at which a run that spends its budget will have stored weights; ascending.

    What a burst adds is not among them, since nobody knows it beforehand.
    """
    interval = config.training.checkpoint_every
    whole, last = int(step), config.steps
    regular, power = whole - whole % interval, 1 << whole.bit_length()
    return sorted({near for near in (regular, regular + interval, power >> 1, power) if near <= last} | {last})


def branch_states(config: RunConfig) -> Hook:
    """Store the state where a branch leaves, for good."""

    def store(trainer: Trainer) -> None:
        trainer.save_state(for_branch=True)

    return Hook(store, lambda trainer: trainer.step in config.branch_points)


def resume_states(config: RunConfig) -> Hook:
    """Store the state from which a killed run goes on.

    Never at the end: who went on from there would not know whether `until` was reached, and train further.
    """
    interval = config.training.checkpoint_every
    return Hook(Trainer.save_state, lambda trainer: trainer.step % interval == 0 and not trainer.done)


def _checkpoint(trainer: Trainer) -> None:
    trainer.refuse_non_finite()
    trainer.writer.checkpoint(trainer.step, trainer.model.state_dict())


# what others hear of it meanwhile


@dataclass(frozen=True)
class Pace:
    """Where a run is and how fast it gets on."""

    run: str
    step: int
    steps: int
    tokens_per_second: float


def paces(trainer: Trainer, tell: Callable[[Pace], None]) -> Hook:
    """Say how far the run is, a few times a second; the speed is that of this session."""
    tokens, seconds = trainer.tokens, trainer.seconds

    def say(trainer: Trainer) -> None:
        speed = (trainer.tokens - tokens) / (trainer.seconds - seconds)
        tell(Pace(str(trainer.config.path), trainer.step, trainer.config.steps, speed))

    return Hook(say, _seconds_apart(0.2))


def statuses() -> Hook:
    """Say in the run directory that the run is running, every other second."""
    return Hook(lambda trainer: trainer.set_status("running"), _seconds_apart(2.0))


def _seconds_apart(interval: float) -> Callable[[Trainer], bool]:
    last = -math.inf

    def due(trainer: Trainer) -> bool:
        nonlocal last
        if trainer.seconds - last <= interval:
            return False
        last = trainer.seconds
        return True

    return due
