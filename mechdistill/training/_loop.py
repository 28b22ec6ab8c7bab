"""The loop that trains one run: step, look, store; stoppable at every step and resumable to the bit."""

import time
from collections.abc import Callable, Sequence

from mechdistill.errors import MechdistillError
from mechdistill.training import _hooks as hooks
from mechdistill.training._hooks import Hook, Pace
from mechdistill.training._trainer import Trainer


class Interrupted(Exception):  # noqa: N818  (no error: somebody asked)
    """The run was asked to stop and has stored its state."""


def train_run(
    trainer: Trainer,
    tell: Callable[[Pace], None],
    stopped: Callable[[], bool],
    extra: Sequence[Hook] = (),
) -> None:
    """Train to the end of the budget, or to `until`; goes on where an earlier session was cut off.

    `extra` hooks come after the run's own looking and storing, and before the state from which a killed run goes on,
    so that they miss no step. Raises `Interrupted` when `stopped()` turns true, `MechdistillError` when the loss is
    no longer finite or a teacher misses its `until`.
    """
    config, is_new = trainer.config, trainer.begin()
    in_order = [
        hooks.paces(trainer, tell),
        hooks.statuses(),
        hooks.targets(),
        hooks.looks(),
        hooks.bursts(config),  # before the evaluation that decides about what they hold
        hooks.evaluations(config),
        hooks.checkpoints(config),
        *extra,
        hooks.branch_states(config),
        hooks.resume_states(config),
    ]
    for hook in in_order:
        if is_new and hook.at_start:
            hook.do(trainer)

    started = time.monotonic() - trainer.seconds
    while not trainer.done:
        if stopped():
            if trainer.step:  # before the first there is nothing to keep
                trainer.save_state()
            trainer.set_status("interrupted")
            raise Interrupted
        trainer.train_step()
        trainer.seconds = time.monotonic() - started
        for hook in in_order:
            if hook.due(trainer):
                hook.do(trainer)

    if config.until and trainer.reached is None:
        missed = ", ".join(f"{name} {value:g}" for name, value in config.until.items())
        raise MechdistillError(
            f"{config.path}: did not reach {missed} in {config.training.tokens:,} tokens; give the teacher more "
            "(teachers.NAME.training.tokens) or ask for less (until) in another directory"
        )
    trainer.writer.write_metrics()
    trainer.set_status("finished")
    trainer.writer.drop_resume()
