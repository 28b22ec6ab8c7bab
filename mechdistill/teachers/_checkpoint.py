"""A trained model as a teacher. Whoever builds it has read the weights; this file opens none."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.model import Model
from mechdistill.sandbox import Labels
from mechdistill.teachers._protocol import teacher_id


class Checkpoint:
    """Softmax of a frozen model's logits: as good or bad, row by row, as that model is.

    Its KL to the oracle and its copy accuracy are those of the checkpoint's own evaluation; an untrained one is
    at chance 1/vocab. Source: knowledge distillation, Hinton et al. 2015.
    """

    def __init__(self, model: Model):
        self._model = model.eval().requires_grad_(False)
        weights = b"".join(
            name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes()
            for name, tensor in sorted(model.state_dict().items())
        )
        self.id = teacher_id("checkpoint", weights)

    @torch.no_grad()
    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log softmax of the model's logits, in float32."""
        del labels
        return self._model(tokens).float().log_softmax(dim=-1)
