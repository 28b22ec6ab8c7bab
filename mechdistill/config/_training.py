"""The training part of the experiment file: the optimiser, its budget, and how often to look."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mechdistill.config._base import Config, Whole
from mechdistill.config._burst import BurstConfig
from mechdistill.errors import quoted

MOST_STEPS = 99_999_999
"""Of a run: the names of checkpoints have eight digits."""
ANNEAL = 0.2
"""The last share of a branch's steps, over which its rate falls, unless its trunk says otherwise."""


class TrainingConfig(Config):
    """The optimiser, its budget, and how often to look."""

    tokens: Whole = Field(default=3_000_000, ge=1, le=10**12)
    """Predictions trained on; steps = ceil(tokens / (batch · seq_len))."""
    batch: Whole = Field(default=32, ge=1, le=10**6)
    """Sequences a step."""
    lr: float = Field(default=3e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.95), strict=False
    )
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Decoupled; on matrices only, not on norms."""
    warmup: Whole = Field(default=100, ge=0, le=MOST_STEPS)
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant", "trunk"] = "cosine"
    """After the warm-up: cosine to zero; constant; or trunk: constant, with annealed branches."""
    branches: tuple[Annotated[Whole, Field(ge=1, le=10**12)], ...] | None = Field(
        default=None, min_length=1, max_length=64, strict=False
    )
    """Of a trunk: token counts, each the end of a run of its own that leaves the trunk and anneals to zero, so that
    half the data and all the data are comparable."""
    anneal: float | None = Field(default=None, gt=0, lt=1)
    """Of a trunk: the last fraction of a branch's tokens, over which its rate falls to zero in a line; 0.2 unless
    given."""
    grad_clip: float | None = Field(default=1.0, gt=0, le=1e6)
    """Largest norm of the gradient; null for none."""
    evaluate_every: Whole = Field(default=50, ge=1, le=MOST_STEPS)
    """Steps between inline evaluations."""
    checkpoint_every: Whole = Field(default=100, ge=1, le=MOST_STEPS)
    """Steps between checkpoints (besides step 0, powers of two and the last)."""
    burst: BurstConfig | None = None
    """More checkpoints where copy accuracy changes fast, like {every: 10}; null for none. They change no weight."""
    unique_sequences: Whole | None = Field(default=None, ge=1, le=1_000_000)
    """Train on so many sequences, reshuffled every epoch; null for an endless stream."""
    eval_sequences: Whole = Field(default=128, ge=1, le=128)
    """Held-out sequences of an inline evaluation."""

    @model_validator(mode="after")
    def _branches_of_a_trunk(self) -> Self:
        if self.schedule != "trunk":
            for key in ("branches", "anneal"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: has no effect with schedule={self.schedule}; drop it or set trunk")
            return self
        if self.branches is None:
            raise ValueError("branches: missing; name the token counts at which a trunk's branches end")
        if list(self.branches) != sorted(set(self.branches)) or self.branches[-1] > self.tokens:
            raise ValueError(f"branches={quoted(list(self.branches))}: must ascend, up to tokens={self.tokens}")
        return self

    @model_validator(mode="after")
    def _dense_burst(self) -> Self:
        if self.burst is not None:
            self.burst.check(self.evaluate_every, self.checkpoint_every)
        return self

    def steps(self, seq_len: int, tokens: int | None = None) -> int:
        """Optimiser steps of its tokens, or of so many."""
        return -(-(tokens or self.tokens) // (self.batch * seq_len))

    def check_steps(self, seq_len: int) -> None:
        """Raise ValueError for more steps than can be named, or a branch that begins before its trunk, never anneals
        or equals another."""
        steps = self.steps(seq_len)
        if steps > MOST_STEPS:
            raise ValueError(
                f"training.tokens={self.tokens}: are {steps:,} steps of batch x seq_len = {self.batch * seq_len}; must "
                f"be at most {MOST_STEPS:,}; raise batch or lower tokens"
            )
        ends = [self.steps(seq_len, tokens) for tokens in self.branches or ()]
        for tokens, end in zip(self.branches or (), ends, strict=True):
            over = self.annealed(seq_len, tokens)
            where = f"training.branches={quoted(list(self.branches or ()))}: the one of {tokens} tokens has {end} steps"
            if ends.count(end) > 1:
                raise ValueError(f"{where} like another, which it equals; drop one of them")
            if over >= end:
                raise ValueError(
                    f"{where} and would anneal over all of them, leaving its trunk at step 0; give it more tokens or "
                    "lower anneal"
                )
            if over < 2:
                raise ValueError(
                    f"{where} and would anneal over its last one alone, at the full rate, which equals its trunk; give "
                    "it more tokens or raise anneal"
                )

    def annealed(self, seq_len: int, tokens: int) -> int:
        """Over how many of its last steps the branch that ends after `tokens` anneals."""
        return max(1, round((ANNEAL if self.anneal is None else self.anneal) * self.steps(seq_len, tokens)))
