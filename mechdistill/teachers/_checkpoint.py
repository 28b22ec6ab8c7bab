"""Trained models as teachers. Whoever builds one has read the weights; this file opens none."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config.teachers import CheckpointTeacher, ProgressiveTeacher
from mechdistill.model import Model, Transformer
from mechdistill.teachers._devices import with_float64
from mechdistill.teachers._protocol import Moment, Setting, Teacher
from mechdistill.world import Labels


class Checkpoint(Teacher):
    """Softmax of a frozen copy of a model: as good or bad, row by row, as that model is now.

    Its KL to the oracle and its copy accuracy are those of the model's own evaluation; an untrained one is
    at chance, 1/vocab. Hooks on the model are no part of it. Source: knowledge distillation, Hinton et al. 2015.
    """

    entry = CheckpointTeacher

    def __init__(self, model: Model):
        self._model = frozen(model)
        super().__init__(*_content(self._model))

    @classmethod
    def from_config(cls, config: CheckpointTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """The last checkpoint of the run that trained it, or the one that the entry names."""
        return cls(setting.trained(setting.name, 1.0))

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log softmax of the model's logits."""
        return model_log_probs(self._model, tokens)


class Progressive(Teacher):
    """One teacher after another: stage i from the fraction start_i of the student's training on, up to start_{i+1}.

    Its KL and copy accuracy are those of the stage in force; early checkpoints of a teacher are near chance
    (1/vocab). Source: Panigrahi et al. 2025, progressive distillation from the checkpoints of one teacher.
    """

    entry = ProgressiveTeacher

    def __init__(self, stages: Sequence[tuple[float, Teacher]]):
        """Pairs (start, teacher) in order, the first start 0. Before the first `advance` the first is in force."""
        self._starts = [float(start) for start, _ in stages]
        teachers = [teacher for _, teacher in stages]
        traits = replace(self.entry.traits, moves=len({teacher.id for teacher in teachers}) > 1)
        super().__init__(repr(self._starts), parts=teachers, traits=traits)
        self._now = 0

    @classmethod
    def from_config(cls, config: ProgressiveTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """Of checkpoints of the named teacher, each opened once."""
        fractions = dict.fromkeys(fraction for _, fraction in config.stages)
        checkpoints = {fraction: Checkpoint(setting.trained(config.of, fraction)) for fraction in fractions}
        return cls([(start, checkpoints[fraction]) for start, fraction in config.stages])

    def advance(self, moment: Moment, student: Model) -> None:
        """Take the last stage that has started."""
        self._now = sum(start <= moment.fraction for start in self._starts) - 1

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """The law of the stage in force."""
        return self.parts[self._now].log_probs(tokens, labels)


@torch.no_grad()
def model_log_probs(model: Model, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
    """log softmax of a model's logits, computed where the model is; they stay there."""
    device = next(model.parameters()).device
    return with_float64(model(tokens.to(device)).float().log_softmax(dim=-1))


def frozen(model: Model) -> Model:
    """A copy in eval mode that nobody trains and no hook of the original's hears or edits."""
    twin = copy.deepcopy(model)
    twin.reset_hooks(including_permanent=True)
    return twin.eval().requires_grad_(False)


def _content(model: Model) -> list[str | bytes]:
    """All that determines a model's law: the same weights mean another law with, say, other heads."""
    content: list[str | bytes] = [type(model).__name__]
    if isinstance(model, Transformer):
        free = set[str]() if model.config.clamps else {"clamps"}  # which earlier versions did not have
        content.append(model.config.model_dump_json(exclude=free))
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        content += [f"{name} {tuple(tensor.shape)} {tensor.dtype}", data.numpy().tobytes()]
    return content
