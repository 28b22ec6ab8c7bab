"""The student as its own teacher: an average of the weights that it had so far."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from mechdistill.config.teachers import EmaTeacher
from mechdistill.model import Model
from mechdistill.teachers._checkpoint import frozen
from mechdistill.teachers._devices import with_float64
from mechdistill.teachers._protocol import Moment, Teacher
from mechdistill.world import Labels

_STEP, _WEIGHT = "step", "weight."


class Ema(Teacher):
    """The model whose weights are theta_s = decay·theta_{s-1} + (1 - decay)·student_s, theta_0 the student's initial.

    student_s are the student's weights after s optimiser steps. It lags behind the student by about
    1 / (1 - decay) steps and is at chance, 1/vocab, as long as the student is; decay = 0 is the student itself.
    It has no law before the first `advance`. Source: Tarvainen & Valpola 2017 (mean teacher).
    """

    entry = EmaTeacher

    def __init__(self, decay: float = 0.99):
        super().__init__(repr(float(decay)))
        self._decay = decay
        self._model: Model | None = None  # only for its shape: its own weights are never used
        self._weights: dict[str, Tensor] = {}
        self._step = 0  # of the last update: a step counts once, however many evaluations come before it

    @torch.no_grad()
    def advance(self, moment: Moment, student: Model) -> None:
        """Take the student's weights at the first step and its share of them at every later one, once."""
        if self._model is None:
            self._model = frozen(student)
        now = student.state_dict()
        if moment.step == 0 or not self._weights:
            self._weights = {name: tensor.detach().clone() for name, tensor in now.items()}
        elif moment.step > self._step:
            share = 1 - self._decay
            self._weights = {
                name: old.to(now[name].device).lerp(now[name], share) for name, old in self._weights.items()
            }
        else:
            return
        self._step = moment.step

    @torch.no_grad()
    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log softmax of the averaged model's logits."""
        if self._model is None:
            raise RuntimeError("an ema teacher is a copy of its student: call advance(moment, student) first")
        device = next(self._model.parameters()).device
        weights = {name: tensor.to(device) for name, tensor in self._weights.items()}
        logits = functional_call(self._model, weights, (tokens.to(device),))
        return with_float64(logits.float().log_softmax(dim=-1))

    def state(self) -> dict[str, Tensor]:
        """The averaged weights and the step of the last update."""
        weights = {_WEIGHT + name: tensor.contiguous() for name, tensor in self._weights.items()}
        return {**weights, _STEP: torch.tensor(self._step)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self._step = int(state[_STEP])
        self._weights = {name.removeprefix(_WEIGHT): t.clone() for name, t in state.items() if name != _STEP}
