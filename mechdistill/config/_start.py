"""A warm start: a student that begins at weights that are there, as in mid-training, and not at random ones."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mechdistill.config._base import Config, Whole
from mechdistill.config._model import ModelConfig
from mechdistill.config._sandbox import SandboxConfig
from mechdistill.config._training import MOST_STEPS


class WarmStart(Config):
    """The checkpoint whose weights a student has at step 0.

    Weights alone: its optimiser is fresh, its learning rate warms up anew, and its tokens are counted from 0. Twins
    that name the same checkpoint begin alike.
    """

    arm: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None
    """A treatment of this experiment: an arm, or one of its rates or branches; its run of the same seed."""
    run: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    """Directory of an earlier run, instead."""
    step: Annotated[Whole, Field(ge=0, le=MOST_STEPS)] | Literal["last"] = "last"
    """Its checkpoint."""
    data: Literal["continue", "again"] = "continue"
    """continue: go on in the student's own stream behind as many sequences as the checkpoint had seen, so that all are
    new to it; again: from the beginning of that stream."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.arm is None) == (self.run is None):
            found = "missing; name" if self.arm is None else "given beside run; keep"
            raise ValueError(f"arm: {found} an arm of this experiment, or `run`, the directory of an earlier run")
        return self


def check_shapes(
    where: str, model: ModelConfig, sandbox: SandboxConfig, student: ModelConfig, world: SandboxConfig
) -> None:
    """Raise ValueError unless the weights of a model in a sandbox can be those of a student in its world.

    Clamped heads have weights too, so that clamps may differ.
    """
    theirs, ours = ((each.vocab, each.seq_len) for each in (sandbox, world))
    if theirs != ours:
        raise ValueError(
            f"{where}: knows {theirs[0]} tokens and {theirs[1]} positions, the student {ours[0]} and {ours[1]}; both "
            "must agree"
        )
    one, other = (each.model_copy(update={"clamps": ()}).model_dump(mode="json") for each in (model, student))
    differing = next((key for key in one if one[key] != other[key]), None)
    if differing is not None:
        raise ValueError(
            f"{where}: has model.{differing}={one[differing]}, the student {other[differing]}; a warm start needs the "
            "same model"
        )
