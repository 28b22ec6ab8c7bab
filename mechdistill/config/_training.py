"""The training part of the experiment file: the optimiser, its budget, and how often to look."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mechdistill.config._base import Config, Whole


class TrainingConfig(Config):
    """The optimiser, its budget, and how often to look."""

    tokens: Whole = Field(default=3_000_000, ge=1)
    """Predictions trained on; steps = ceil(tokens / (batch · seq_len))."""
    batch: Whole = Field(default=32, ge=1)
    """Sequences a step."""
    lr: float = Field(default=3e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.95), strict=False
    )
    weight_decay: float = Field(default=0.01, ge=0, le=10)
    """Decoupled; on matrices only, not on norms."""
    warmup: Whole = Field(default=100, ge=0)
    """Steps of linear warm-up."""
    schedule: Literal["cosine", "constant", "trunk"] = "cosine"
    """After the warm-up: cosine to zero; constant; or trunk: constant, with annealed branches."""
    branches: tuple[Whole, ...] | None = Field(default=None, min_length=1, strict=False)
    """Of a trunk: token counts, each the end of a run of its own that leaves the trunk and anneals to zero, so that
    half the data and all the data are comparable."""
    anneal: float | None = Field(default=None, gt=0, lt=1)
    """Of a trunk: the last fraction of a branch's tokens, over which its rate falls to zero in a line; 0.2 unless
    given."""
    grad_clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; null for none."""
    evaluate_every: Whole = Field(default=50, ge=1)
    """Steps between inline evaluations."""
    checkpoint_every: Whole = Field(default=100, ge=1)
    """Steps between checkpoints (besides step 0, powers of two and the last)."""
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
            raise ValueError(f"branches={list(self.branches)}: must ascend, up to tokens={self.tokens}")
        return self
