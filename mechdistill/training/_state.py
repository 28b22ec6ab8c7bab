"""Everything that a run needs to go on from a step, as named tensors: weights and the optimiser's moments.

Data need no state (they are a function of the step), and nothing in the loop draws random numbers.
"""

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def pack(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights under `model.`, each parameter's moments under `optimiser.`."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for moment in _MOMENTS:
            tensors[f"optimiser.{moment}.{name}"] = optimiser.state[parameter][moment]
    return tensors


def unpack(tensors: dict[str, Tensor], model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Put back what `pack` took, bit for bit; shapes must be the model's."""
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    for name, parameter in model.named_parameters():
        optimiser.state[parameter] = {
            moment: tensors[f"optimiser.{moment}.{name}"].to(parameter.device) for moment in _MOMENTS
        }
