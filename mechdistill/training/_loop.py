"""The loop that trains one run: step, look, store; stoppable at every step and resumable to the bit."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.evals import inline_metrics
from mechdistill.model import Model, build
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import RunWriter, Weights, numerics
from mechdistill.tables import LATER, metrics
from mechdistill.training._distillation import Distillation
from mechdistill.training._loggers import Logger
from mechdistill.training._optimiser import learning_rate, optimiser
from mechdistill.training._state import pack, unpack
from mechdistill.worlds import open_world

_REPORT_EVERY = 0.2  # seconds
_STATUS_EVERY = 2.0


@dataclass(frozen=True)
class Progress:
    """Where a run is; sent while it trains."""

    run: str
    step: int
    steps: int
    tokens_per_second: float


class Interrupted(Exception):  # noqa: N818  (no error: somebody asked)
    """The run was asked to stop and has stored its state."""


class Trainer:
    """One run in memory. `until_done()` trains it to its end, storing as it goes."""

    def __init__(
        self,
        config: RunConfig,
        writer: RunWriter,
        device: str,
        trained: Callable[[str, float], Model] | None = None,
        loggers: Sequence[Logger] = (),
    ):
        """`trained` opens the models of checkpoint teachers: name and fraction of their training to model."""
        self.config, self.writer, self.device, self.loggers = config, writer, device, loggers
        self.world = open_world(config.sandbox)
        self.data = self.world.training(config.data_seed, config.training.unique_sequences)
        self.evaluation = EvaluationSet.held_out(self.world, config.training.eval_sequences)
        self.model: Model = build(
            config.model,
            d_vocab=config.sandbox.vocab,
            n_ctx=config.sandbox.seq_len,
            init_seed=config.init_seed,
        ).to(device)
        self.optimiser = optimiser(self.model, config.training)
        self.step = 0
        self.seconds = 0.0  # spent on this run, earlier sessions included
        self.distillation = Distillation(config, self.world, self.data, device, trained)
        # of what is logged since the last evaluation; the last entry counts the steps
        self._sums = torch.zeros(len(self.distillation.logged) + 1, device=device)
        self._conditions = {**numerics(device), **self.distillation.conditions}

    def until_done(self, report: Callable[[Progress], None], stopped: Callable[[], bool]) -> None:
        """Train to the end of the budget, or to `until`; resumes where an earlier call was cut off.

        Raises `Interrupted` when `stopped()` turns true, `MechdistillError` when the loss is no longer finite or a
        teacher misses its `until`.
        """
        self._restore()
        started, first_step = time.monotonic() - self.seconds, self.step
        session = time.monotonic()
        last_report = last_status = 0.0
        reached = False
        while self.step < self.config.steps and not reached:
            if stopped():
                self._store_resume()
                self._status("interrupted")
                raise Interrupted
            self._store_branch()
            self._train_step()
            now = time.monotonic()
            self.seconds = now - started
            if now - last_report > _REPORT_EVERY:
                last_report = now
                done = (self.step - first_step) * self._tokens_per_step
                report(Progress(str(self.config.path), self.step, self.config.steps, done / (now - session)))
            if now - last_status > _STATUS_EVERY:
                last_status = now
                self._status("running")
            last = self.step == self.config.steps
            if last or self.step % self.config.training.evaluate_every == 0:
                reached = self._evaluate()
            if last or reached or self._checkpoint_due():
                self._checkpoint()
            # not at the end: who resumes there would not know whether `until` was reached
            if self.step % self.config.training.checkpoint_every == 0 and not (last or reached):
                self._store_resume()
        if self.config.until and not reached:
            raise MechdistillError(
                f"{self.config.path}: did not reach {_target(self.config.until)} in {self.config.training.tokens:,} "
                "tokens; give the teacher more (teachers.NAME.training.tokens) or ask for less (until) in another --out"
            )
        self.writer.write_metrics()
        self._status("finished")
        self.writer.drop_resume()

    @property
    def _tokens_per_step(self) -> int:
        return self.config.training.batch * self.config.sandbox.seq_len

    def _restore(self) -> None:
        state = self.writer.begin(self._conditions)
        if state is not None:
            self._continue(state)
            self.seconds = float(state.metadata["seconds"])
            return
        if self.config.branch is not None:
            self._continue(self.writer.branch_off(self._conditions))
            self._sums.zero_()
        self.writer.checkpoint(self.step, self.model.state_dict())
        targets = self.distillation.describe_targets(self.step, self.model)
        if targets is not None:
            self.writer.write_targets(targets)
        self._log(self._held_out())

    def _continue(self, state: Weights) -> None:
        unpack(state.tensors, self.model, self.optimiser)
        self.distillation.restore(state.tensors)
        self.step = int(state.metadata["step"])
        self._sums = state.tensors["sums"].to(self.device)

    def _train_step(self) -> None:
        training = self.config.training
        batch = self.data.batch(self.step * training.batch, training.batch)
        logits = self.model(batch.tokens.to(self.device))
        total, logged = self.distillation.loss(logits, batch, self.step, self.model)
        total.backward()
        if training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.grad_clip)
        rate = self._rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._sums += torch.cat((logged, logged.new_ones(1)))
        self.step += 1

    def _rate(self, step: int) -> float:
        branched = self.config.branch.start if self.config.branch else None
        return learning_rate(self.config.training, step, self.config.steps, branched)

    def _evaluate(self) -> bool:
        """Log training and held-out metrics; true if they reach `until`."""
        self._refuse_non_finite()
        means = (self._sums[:-1] / self._sums[-1]).tolist()
        rows = [metric.row(value) for metric, value in zip(self.distillation.logged, means, strict=True)]
        rows.append(metrics.LEARNING_RATE.row(self._rate(self.step - 1)))
        held_out = self._held_out()
        self._log(rows + held_out)
        self._sums.zero_()
        return bool(self.config.until) and all(
            _copying(held_out, metric) >= value for metric, value in (self.config.until or {}).items()
        )

    def _log(self, rows: list[dict[str, Any]]) -> None:
        tokens = self.step * self._tokens_per_step
        self.writer.log(self.step, tokens, rows)
        for logger in self.loggers:
            logger.log(self.step, tokens, rows)

    def _held_out(self) -> list[dict[str, Any]]:
        positions = predict(self.model, self.evaluation)
        return inline_metrics(positions) + self.distillation.metrics(positions, self.step, self.model)

    def _checkpoint_due(self) -> bool:
        power_of_two = self.step & (self.step - 1) == 0
        return power_of_two or self.step % self.config.training.checkpoint_every == 0

    def _checkpoint(self) -> None:
        self._refuse_non_finite()
        self.writer.checkpoint(self.step, self.model.state_dict())

    def _store_resume(self) -> None:
        if self.step:
            self._store_state()

    def _store_branch(self) -> None:
        if self.step in self.config.branch_points:
            self._store_state(for_branch=True)

    def _store_state(self, *, for_branch: bool = False) -> None:
        tensors = {**pack(self.model, self.optimiser), **self.distillation.state(), "sums": self._sums}
        self.writer.save_state(tensors, self.step, self.seconds, self._conditions, for_branch=for_branch)

    def _status(self, state: str) -> None:
        self.writer.set_status(state, step=self.step, tokens=self.step * self._tokens_per_step, seconds=self.seconds)

    def _refuse_non_finite(self) -> None:
        """The sums carry a nan or inf of any step since the last evaluation; the weights, one of the last update."""
        finite = math.isfinite(float(self._sums.sum())) and all(
            bool(p.isfinite().all()) for p in self.model.parameters()
        )
        if not finite:
            raise MechdistillError(
                f"{self.config.path}: loss or weights no longer finite at step {self.step} "
                f"(training.lr={self.config.training.lr}); lower training.lr; the checkpoints before are sound"
            )


def _copying(rows: list[dict[str, Any]], metric: str) -> float:
    """A copy metric at occurrence >= 2; -inf where the world has nothing to copy."""
    return next((r["value"] for r in rows if r["metric"] == metric and r.get("occurrence") == LATER), -math.inf)


def _target(until: dict[str, float]) -> str:
    return ", ".join(f"{metric} {value:g}" for metric, value in until.items())
