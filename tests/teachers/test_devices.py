"""A teacher's law stays where its model is. Without a GPU: tensors that say they are on one, and refuse all others."""

from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from mechdistill.model import Model
from mechdistill.teachers import Teacher, everyone
from tests.helpers import world
from tests.teachers.every import ENTRIES, advanced, built, some_tokens

GPU = torch.device("cuda", 0)


class OnGpu(torch.Tensor):
    """A tensor of the CPU that passes for one of a GPU."""

    def __deepcopy__(self, memo: Any) -> "OnGpu":
        return self.clone()

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function == torch.Tensor.device.__get__:
            return GPU
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if any(not isinstance(tensor, OnGpu) and tensor.ndim for tensor in tensors):
            raise RuntimeError(f"{function.__name__}: expected all tensors to be on the same device")
        return super().__torch_function__(function, types, args, kwargs)


class Moves(TorchFunctionMode):
    """Moving and making tensors; counts what goes back to the CPU."""

    back = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.Tensor.cpu or (function is torch.Tensor.to and args[1] == torch.device("cpu")):
            self.back += isinstance(args[0], OnGpu)
            return args[0].as_subclass(torch.Tensor)
        if function is torch.Tensor.to and args[1] == GPU:
            return args[0].as_subclass(OnGpu)
        if kwargs.get("device") == GPU:
            return function(*args, **{**kwargs, "device": None}).as_subclass(OnGpu)
        return function(*args, **kwargs)


def on_gpu(model: Model) -> None:
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            tensors.update({name: t.detach().as_subclass(OnGpu) for name, t in tensors.items() if t is not None})


def law(name: str, *, on_a_gpu: bool) -> tuple[torch.Tensor, bool, int]:
    """A teacher's law, whether a model has to do with it, and how often something went back to the CPU."""
    sandbox = world()
    teacher: Teacher = advanced(built(name, sandbox))
    models = {"checkpoint", "ema"}
    parts = [part for one in everyone(teacher) for part in (one, *one.parts)]
    if on_a_gpu:
        for one in parts:
            if one.kind in models:
                on_gpu(one._model)
            if one.kind == "ema":
                one._weights = {key: tensor.as_subclass(OnGpu) for key, tensor in one._weights.items()}
    tokens, labels = some_tokens(sandbox)
    with Moves() as moves:
        found = teacher.log_probs(tokens, labels)
    return found, bool(models & {one.kind for one in parts}), moves.back


@pytest.mark.parametrize("name", ENTRIES)
def test_a_law_stays_where_a_model_computed_it(name: str) -> None:
    found, has_a_model, back = law(name, on_a_gpu=True)
    assert isinstance(found, OnGpu) == has_a_model
    assert back == 0
    assert torch.equal(found.as_subclass(torch.Tensor), law(name, on_a_gpu=False)[0])
