"""Which devices this machine trains on."""

import torch

from mechdistill.errors import MechdistillError, quoted


def available_device(device: str | torch.device) -> str:
    """The name of a device that is there: cpu, cuda or mps; 'auto' is a GPU if there is one.

    Raises `MechdistillError` for any other: of several GPUs CUDA_VISIBLE_DEVICES chooses, so that a run's record
    says no number that means another one elsewhere.
    """
    name = str(device) if isinstance(device, torch.device) and not device.index else device
    name = name.removesuffix(":0") if isinstance(name, str) else name
    there = ["cpu"]
    there += ["cuda"] if torch.cuda.is_available() else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    if isinstance(name, str) and name == "auto":
        return there[-1] if len(there) == 2 else there[0]
    if not isinstance(name, str) or name not in there:
        raise MechdistillError(f"device {quoted(device)}: not on this machine; there are: {', '.join(there)}, auto")
    return name
