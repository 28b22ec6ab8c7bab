"""One run in memory: what it trains, the step that trains it, and the state from which it can go on to the bit.

It looks at nothing and stores nothing on its own: the loop and its hooks do that at the steps where they are due.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch

from mechdistill.config import RunConfig
from mechdistill.errors import MechdistillError
from mechdistill.evals import inline_metrics
from mechdistill.model import Model, build
from mechdistill.positions import EvaluationSet
from mechdistill.runs import RunWriter, Weights, numerics
from mechdistill.tables import metrics
from mechdistill.training._burst import Burst
from mechdistill.training._distillation import Distillation
from mechdistill.training._loggers import Logger
from mechdistill.training._optimiser import learning_rate, optimiser
from mechdistill.training._start import Start
from mechdistill.training._state import pack, unpack
from mechdistill.training._until import Until
from mechdistill.world import Batch, fingerprint
from mechdistill.worlds import open_world

EXPLODED = 20  # times ln(vocab)
PATIENCE = 3  # evaluations

Intervention = Callable[[Model, int], AbstractContextManager[object]]
"""What is different while a step computes: of the model and the step's number, a context that is entered before the
forward pass and left after the backward pass, whatever either raises. Evaluations happen outside.

    def clamp(model, step): return model.hooks(fwd_hooks=[("blocks.1.attn.hook_pattern", uniform)])

What changes a run's bits belongs into its config, which resuming checks: the trainer cannot tell whose hooks these are.
"""


class Trainer:
    """The student of one run, its optimiser, its data and its teacher, after `step` steps."""

    def __init__(
        self,
        config: RunConfig,
        writer: RunWriter,
        device: str,
        trained: Callable[[str, float], Model] | None = None,
        *,
        start: Start | None = None,
        loggers: Sequence[Logger] = (),
        interventions: Sequence[Intervention] = (),
    ):
        """`trained` opens the models of checkpoint teachers: name and fraction of their training to model; `start` is
        what `starting_point` gives."""
        self.config, self.writer, self.device = config, writer, device
        self.interventions = list(interventions)
        self.world = open_world(config.sandbox)
        self.data = self.world.training(config.data_seed, config.training.unique_sequences)
        self.evaluation = EvaluationSet.held_out(self.world, config.training.eval_sequences)
        self.model: Model = build(
            config.model,
            d_vocab=config.sandbox.vocab,
            n_ctx=config.sandbox.seq_len,
            init_seed=config.init_seed,
        ).to(device)
        assert (start is None) == (config.start is None), "a warm start without its weights, or weights without one"
        if start is not None:
            self.model.load_state_dict(start.weights)
        self._first = 0 if start is None else start.first
        self.optimiser = optimiser(self.model, config.training)
        self.distillation = Distillation(config, self.world, self.data, device, trained)
        self.step = 0
        self.seconds = 0.0  # spent on this run, earlier sessions included
        self.until = Until(config, self.world) if config.until else None
        self.burst = Burst(config.training.burst) if config.training.burst else None
        self.reached: dict[str, float] | None = None  # of `until`: nothing is left to do, however many steps are
        self._sound, self._beyond = 0, 0  # the last step before the loss exploded, and evaluations since
        # of what is logged since the last evaluation; the last entry counts the steps
        self._sums = torch.zeros(len(self.distillation.logged) + 1, device=device)
        self._conditions = {**numerics(device), **self.distillation.conditions, **(start.conditions if start else {})}
        self._logs = [writer.log, *(each.log for each in loggers)]

    @property
    def done(self) -> bool:
        """Whether the budget is spent or `until` reached."""
        return self.reached is not None or self.step == self.config.steps

    @property
    def tokens(self) -> int:
        """Predictions trained on so far."""
        return self.step * self.config.training.batch * self.config.sandbox.seq_len

    def begin(self) -> bool:
        """Go on where an earlier session stored its state, or start, where it branches off if it does.

        True for a start: nobody has looked at this state yet.
        """
        state = self.writer.begin(self._conditions, fingerprint(self.world))
        if state is not None:
            self._continue(state)
            self.seconds = float(state.metadata["seconds"])
            return False
        if self.config.branch is not None:
            self._continue(self.writer.branch_off(self._conditions))
            self._sums.zero_()
        return True

    def train_step(self) -> None:
        """One step of the optimiser on the next batch, inside the interventions."""
        training, batch = self.config.training, self._batch(self.step)
        with ExitStack() as inside:
            for intervention in self.interventions:
                inside.enter_context(intervention(self.model, self.step))
            logits = self.model(batch.tokens.to(self.device))
            loss = self.distillation.loss(logits, batch, self.step, self.model)
            loss.total.backward()
        if training.grad_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.grad_clip)
        rate = self._rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._sums += torch.cat((loss.logged, loss.logged.new_ones(1)))
        self.step += 1

    def held_out(self) -> list[dict[str, Any]]:
        """Rows of the `metrics` table about the held-out sequences as they are predicted now."""
        positions, about_targets = self.distillation.evaluate(self.evaluation, self.step, self.model)
        return inline_metrics(positions) + about_targets

    def take_training_rows(self) -> list[dict[str, Any]]:
        """Rows of the `metrics` table: means over the training batches since they were last taken; none at a start."""
        if not self._sums[-1]:
            return []
        means = (self._sums[:-1] / self._sums[-1]).tolist()
        self._sums.zero_()
        rows = [metric.row(value) for metric, value in zip(self.distillation.logged, means, strict=True)]
        return [*rows, metrics.LEARNING_RATE.row(self._rate(self.step - 1))]

    def log(self, rows: list[dict[str, Any]]) -> None:
        """Rows about this step, to the run directory and to every logger."""
        for log in self._logs:
            log(self.step, self.tokens, rows)

    def save_state(self, *, for_branch: bool = False) -> None:
        """Store all that going on from here needs: for this run, or for a branch that leaves it here."""
        tensors = {**pack(self.model, self.optimiser), **self.distillation.state()}
        tensors |= {"sums": self._sums, "explosion": torch.tensor([self._sound, self._beyond])}
        if self.until is not None:
            tensors["next_look"] = torch.tensor(self.until.next_look)
        if self.burst is not None and not for_branch:  # a branch has a window of its own
            tensors |= self.burst.state()
        self.writer.save_state(tensors, self.step, self.seconds, self._conditions, for_branch=for_branch)

    def set_status(self, state: str) -> None:
        """What the run directory says of the run."""
        self.writer.set_status(state, step=self.step, tokens=self.tokens, seconds=self.seconds)

    def refuse_non_finite(self) -> None:
        """The sums carry a nan or inf of any step since the last evaluation; the weights, one of the last update."""
        finite = math.isfinite(float(self._sums.sum())) and all(
            bool(p.isfinite().all()) for p in self.model.parameters()
        )
        if not finite:
            self._refuse_teacher()
            raise MechdistillError(
                f"{self.config.path}: loss or weights no longer finite at step {self.step} "
                f"(training.lr={self.config.training.lr}); lower training.lr; the checkpoints before are sound"
            )

    def refuse_exploded(self, rows: list[dict[str, Any]]) -> None:
        """Stop a run whose held-out loss (`rows`) is beyond `EXPLODED`·ln(vocab) at `PATIENCE` evaluations in a row.

        Uniform guessing loses ln(vocab). High rates pass well above it for an evaluation or two and come back, so that
        one look does not count but for the last; an objective that asks for the opposite of the labels (reverse KL to
        a peaked teacher, no labels) was measured at up to 10·ln(vocab). Not the training loss, since a divergence may
        have a bound, like ln 2, however wrong the student is.
        """
        limit = EXPLODED * math.log(self.config.sandbox.vocab)
        loss = next((row["value"] for row in rows if row["metric"] == metrics.LOSS.name), math.inf)
        if loss <= limit:
            self._sound, self._beyond = self.step, 0
            return
        self._beyond += 1
        if self._beyond == PATIENCE or self.done:
            raise MechdistillError(
                f"{self.config.path}: loss exploded, {loss:.4g} nats on held-out sequences at step {self.step} (more "
                f"than {EXPLODED}·ln(vocab) = {limit:.4g} for {self._beyond} evaluations; training.lr="
                f"{self.config.training.lr}); lower training.lr; checkpoints up to step {self._sound} are sound"
            )

    def _refuse_teacher(self) -> None:
        """Raise `MechdistillError` if it is a teacher that was not finite, in a step since the last evaluation."""
        for step in range(self.step - int(self._sums[-1]), self.step):
            self.distillation.refuse_no_law(self._batch(step), step, self.model)

    def _continue(self, state: Weights) -> None:
        unpack(state.tensors, self.model, self.optimiser)
        self.distillation.restore(state.tensors)
        self.step = int(state.metadata["step"])
        self._sums = state.tensors["sums"].to(self.device)
        if self.until is not None:
            self.until.next_look = int(state.tensors["next_look"])
        if self.burst is not None:
            self.burst.restore(state.tensors)
        if "explosion" in state.tensors:  # earlier versions did not look
            self._sound, self._beyond = state.tensors["explosion"].tolist()

    def _batch(self, step: int) -> Batch:
        """The sequences of a step."""
        count = self.config.training.batch
        return self.data.batch(self._first + step * count, count)

    def _rate(self, step: int) -> float:
        branched = self.config.branch.start if self.config.branch else None
        return learning_rate(self.config.training, step, self.config.steps, branched)
