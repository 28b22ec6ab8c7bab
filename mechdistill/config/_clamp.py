"""Clamps: heads whose attention pattern is an ideal one, computed from the tokens, in place of their own.

A clamp is part of the network, not of its training alone: it holds in every forward pass of a run, in training, in
evaluations and in what is measured of its checkpoints. Scores of weights and QK matrices are of the weights that the
head has, which what it attends to no longer hangs on. Source: Singh et al. 2024 ("What needs to go right for an
induction head?"), who clamp activations throughout training.
"""

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from mechdistill.config._base import Config

Pattern = Literal["previous-token", "two-back", "induction", "duplicate-token"]
PREVIOUS, TWO_BACK, _, DUPLICATE = get_args(Pattern)


def _named(head: str) -> str:
    if not re.fullmatch(r"L[0-9]{1,3}H[0-9]{1,3}", head):
        raise PydanticCustomError("head", "must be a head, like L0H0: layer and head, from 0")
    return head


class ClampConfig(Config):
    """One head and the pattern that it is held at; each query pays all its attention to one source."""

    head: Annotated[str, AfterValidator(_named)]
    """Like L0H0: layer and head, from 0."""
    pattern: Pattern
    """previous-token: the position before; induction: the one after the latest earlier copy of the query's token. Their
    wrong patterns, as hard and as far: two-back, and duplicate-token: that earlier copy itself."""

    @property
    def place(self) -> tuple[int, int]:
        """Layer and head."""
        layer, head = self.head.removeprefix("L").split("H")
        return int(layer), int(head)
