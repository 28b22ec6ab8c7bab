"""The burst of checkpoints where a run learns to copy fast, so that formation is resolved to a few steps."""

from pydantic import Field

from mechdistill.config._base import Config, Whole


class BurstConfig(Config):
    """Dense checkpoints between two inline evaluations between which copy accuracy has changed by much.

    Weights are held in memory from one evaluation to the next, and stored once the second one has shown the change:
    evaluate_every / every copies of them at most.
    """

    every: Whole = Field(default=10, ge=1, le=10**6)
    """Steps between checkpoints of a burst."""
    change: float = Field(default=0.05, ge=0.001, le=1)
    """How far copy accuracy at occurrence >= 2, in [0, 1], has to move, up or down, between two evaluations."""

    def check(self, evaluate_every: int, checkpoint_every: int) -> None:
        """Raise ValueError where it stores nothing that is not stored anyway, or holds nothing between evaluations."""
        if self.every >= checkpoint_every:
            raise ValueError(
                f"burst.every={self.every}: must be below checkpoint_every={checkpoint_every}, at which all steps are "
                "stored anyway; lower it or set burst to null"
            )
        if self.every >= evaluate_every:
            raise ValueError(
                f"burst.every={self.every}: must be below evaluate_every={evaluate_every}, since what is stored lies "
                "between two evaluations; lower it or raise evaluate_every"
            )

    def held(self, evaluate_every: int) -> int:
        """Copies of the weights that are in memory at most."""
        return -(-evaluate_every // self.every)
