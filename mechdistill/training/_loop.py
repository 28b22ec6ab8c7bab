"""The loop that trains one run: step, look, store; stoppable at every step and resumable to the bit."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.evals import inline_metrics
from mechdistill.model import Model, build
from mechdistill.objective import mixture
from mechdistill.positions import EvaluationSet, predict
from mechdistill.runs import RunWriter, numerics
from mechdistill.sandbox import Sandbox, TrainingData
from mechdistill.teachers import Teacher
from mechdistill.training._optimiser import learning_rate, optimiser
from mechdistill.training._state import pack, unpack

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

    def __init__(self, config: RunConfig, writer: RunWriter, teacher: Teacher | None, device: str = "cpu"):
        self.config, self.writer, self.teacher, self.device = config, writer, teacher, device
        self.sandbox = Sandbox(config.sandbox)
        self.data = TrainingData(self.sandbox, config.data_seed, config.training.unique_sequences)
        self.evaluation = EvaluationSet.held_out(self.sandbox, config.training.eval_sequences)
        self.model: Model = build(
            config.model,
            d_vocab=config.sandbox.vocab,
            n_ctx=config.sandbox.seq_len,
            init_seed=config.init_seed,
        ).to(device)
        self.optimiser = optimiser(self.model, config.training)
        self.step = 0
        self.seconds = 0.0  # spent on this run, earlier sessions included
        self._sums = torch.zeros(3, device=device)  # total, cross-entropy and KL since the last evaluation
        self._steps_in_sums = 0
        self._conditions = {**numerics(device), "teacher": teacher.id if teacher else "none"}

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
            unpack(state.tensors, self.model, self.optimiser)
            self.step = int(state.metadata["step"])
            self.seconds = float(state.metadata["seconds"])
            self._sums = state.tensors["sums"].to(self.device)
            self._steps_in_sums = self.step % self.config.training.evaluate_every
        else:
            self.writer.checkpoint(0, self.model.state_dict())
            self.writer.log(0, 0, inline_metrics(predict(self.model, self.evaluation)))

    def _train_step(self) -> None:
        training, objective = self.config.training, self.config.objective
        batch = self.data.batch(self.step * training.batch, training.batch)
        tokens, next_tokens = batch.tokens, batch.next_tokens
        targets = None
        if self.teacher is not None:
            targets = self.teacher.log_probs(tokens, self.sandbox.labels(tokens, batch.triggers)).to(self.device)
        losses = mixture(
            self.model(tokens.to(self.device)),
            next_tokens.to(self.device),
            targets,
            alpha=objective.alpha,
            temperature=objective.temperature,
        )
        losses.total.backward()
        if training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.grad_clip)
        rate = learning_rate(training, self.step, self.config.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        with torch.no_grad():
            kl = losses.total.new_zeros(()) if losses.kl is None else losses.kl
            self._sums += torch.stack((losses.total, losses.cross_entropy, kl))
        self._steps_in_sums += 1
        self.step += 1

    def _evaluate(self) -> bool:
        """Log training and held-out metrics; true if they reach `until`."""
        self._refuse_non_finite()
        means = (self._sums / self._steps_in_sums).tolist()
        rows: list[dict[str, Any]] = [{"metric": "train-loss", "value": means[0]}]
        rows.append({"metric": "train-cross-entropy", "value": means[1]})
        if self.teacher is not None:
            rows.append({"metric": "train-kl", "value": means[2]})
        rows.append({"metric": "lr", "value": learning_rate(self.config.training, self.step - 1, self.config.steps)})
        held_out = inline_metrics(predict(self.model, self.evaluation))
        self.writer.log(self.step, self.step * self._tokens_per_step, rows + held_out)
        self._sums.zero_()
        self._steps_in_sums = 0
        return bool(self.config.until) and all(
            _held_out(held_out, metric) >= value for metric, value in (self.config.until or {}).items()
        )

    def _checkpoint_due(self) -> bool:
        power_of_two = self.step & (self.step - 1) == 0
        return power_of_two or self.step % self.config.training.checkpoint_every == 0

    def _checkpoint(self) -> None:
        self._refuse_non_finite()
        self.writer.checkpoint(self.step, self.model.state_dict())

    def _store_resume(self) -> None:
        tensors = {**pack(self.model, self.optimiser), "sums": self._sums} if self.step else None
        if tensors is not None:
            self.writer.save_resume(tensors, self.step, self.seconds, self._conditions)

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


def _held_out(rows: list[dict[str, Any]], metric: str) -> float:
    """A copy metric at occurrence >= 2; -inf where the world has nothing to copy."""
    return next((r["value"] for r in rows if r["metric"] == metric and r.get("occurrence") == 2), -math.inf)


def _target(until: dict[str, float]) -> str:
    return ", ".join(f"{metric} {value:g}" for metric, value in until.items())
