"""The world's part of the experiment file: rows, triggers, size."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mechdistill.config._base import Config, Seed, Whole
from mechdistill.errors import quoted

MOST_NUMBERS = 2**23
"""Of the laws of one sequence, seq_len x vocab: half a gigabyte with the copies that measures make of them."""


class GradedRows(Config):
    """Row entropies evenly spaced between two values."""

    kind: Literal["graded"] = "graded"
    low: float = Field(default=0.05, ge=0, le=100)
    """Entropy of the most predictable row, nats."""
    high: float = Field(default=4.0, ge=0, le=100)
    """Entropy of the least predictable row, nats; at most ln(vocab)."""


class TwoLevelRows(Config):
    """Uniform rows on random supports: some small, some large."""

    kind: Literal["two-level"]
    share: float = Field(default=0.5, ge=0, le=1)
    """Fraction of rows with the small support."""
    low: Whole = Field(default=2, ge=1, le=4096)
    """Successors of a low-entropy row: its entropy is ln(low)."""
    high: Whole = Field(default=32, ge=1, le=4096)
    """Successors of a high-entropy row: its entropy is ln(high)."""


class SupportRows(Config):
    """Uniform rows on random supports of several sizes, equally many rows of each."""

    kind: Literal["supports"]
    sizes: tuple[Annotated[Whole, Field(ge=1, le=4096)], ...] = Field(
        default=(8, 16, 32, 64), min_length=1, max_length=64, strict=False
    )
    """Successors of a row: its entropy is ln(size). At most vocab."""


class DirichletRows(Config):
    """Rows drawn from a symmetric Dirichlet law."""

    kind: Literal["dirichlet"]
    concentration: float = Field(default=0.3, ge=0.01, le=1000)
    """Small: peaked rows; 1: uniform on the simplex; large: flat rows."""


MOST_OF_A_TEXT = 100_000_000
"""Bytes of a corpus: more text makes no better bigrams."""


class CorpusRows(Config):
    """Character bigrams of a text file; tokens are its most frequent characters, in order."""

    kind: Literal["corpus"]
    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """A UTF-8 text file."""
    sha256: Annotated[str, Field(min_length=64, max_length=64)] | None = None
    """Of the file; filled in when a world is first made of it, and then it must not change."""


Rows = Annotated[GradedRows | TwoLevelRows | SupportRows | DirichletRows | CorpusRows, Field(discriminator="kind")]


class _Triggers(Config):
    targets: Literal["uniform", "row"] = "uniform"
    """Law of a trigger's target: uniform, or its ordinary row; never the trigger itself, never a fixed trigger."""
    noise: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an occurrence follows the trigger's ordinary row instead of its target."""


class FixedTriggers(_Triggers):
    """The same triggers in every sequence; targets come from the other tokens, so no trigger follows a trigger."""

    kind: Literal["fixed"] = "fixed"
    count: Whole = Field(default=5, ge=0, le=4096)
    """How many triggers: the most frequent tokens of the plain chain. 0 gives a plain chain."""
    tokens: tuple[Annotated[Whole, Field(ge=0, le=4095)], ...] | None = Field(
        default=None, max_length=4096, strict=False
    )
    """Name the triggers yourself (count is then their number)."""

    @model_validator(mode="before")
    @classmethod
    def _count_named_tokens(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("tokens"), list | tuple) and "count" not in data:
            return {**data, "count": len(data["tokens"])}
        return data


class BernoulliTriggers(_Triggers):
    """Every sequence draws its own triggers, so a model has to infer from context which tokens are triggers."""

    kind: Literal["bernoulli"]
    rate: (
        Annotated[float, Field(gt=0, lt=1)]
        | Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(strict=False, max_length=4096)]
    ) = 0.2
    """Probability that a token is a trigger in a sequence; one number, or one a token."""


Triggers = Annotated[FixedTriggers | BernoulliTriggers, Field(discriminator="kind")]


def _with_kind(default: str) -> BeforeValidator:
    """Let `kind` be left out where there is a usual one."""
    return BeforeValidator(lambda data: {"kind": default, **data} if isinstance(data, dict) else data)


class SandboxConfig(Config):
    """The world: a Markov chain over `vocab` tokens with some trigger rows."""

    vocab: Whole = Field(default=64, ge=4, le=4096)
    """Number of tokens."""
    seq_len: Whole = Field(default=64, ge=8, le=8192)
    """Predictions in a sequence (a sequence has one token more)."""
    seed: Seed = 1234
    """Seed of the transition matrix and of the held-out sequences."""
    rows: Annotated[Rows, _with_kind("graded")] = GradedRows()
    triggers: Annotated[Triggers, _with_kind("fixed")] = FixedTriggers()

    @property
    def shows_triggers(self) -> bool:
        """Whether a token says if it is a trigger: not where every sequence draws its own."""
        return isinstance(self.triggers, FixedTriggers) or self.is_plain

    @property
    def is_plain(self) -> bool:
        """Whether it is a plain chain: no triggers, nothing to copy."""
        triggers = self.triggers
        if isinstance(triggers, FixedTriggers):
            return triggers.count == 0
        return isinstance(triggers.rate, tuple) and not any(triggers.rate)

    def is_world_of(self, other: "SandboxConfig") -> bool:
        """Whether it differs from the other in the length of its sequences at most, and in where its text lies."""
        rows = self.rows
        if isinstance(rows, CorpusRows) and isinstance(other.rows, CorpusRows) and rows.sha256 == other.rows.sha256:
            rows = rows if rows.sha256 is None else rows.model_copy(update={"path": other.rows.path})
        return self.model_copy(update={"seq_len": other.seq_len, "rows": rows}) == other

    @model_validator(mode="after")
    def _check_size(self) -> Self:
        if self.vocab * self.seq_len > MOST_NUMBERS:
            raise ValueError(
                f"seq_len={self.seq_len}: must be at most {MOST_NUMBERS // self.vocab} with vocab={self.vocab}, since "
                f"vocab x seq_len, the numbers of one sequence's laws, may be {MOST_NUMBERS:,}; lower either"
            )
        return self

    @model_validator(mode="after")
    def _check_rows(self) -> Self:
        rows = self.rows
        if isinstance(rows, GradedRows):
            if rows.high > math.log(self.vocab):
                raise ValueError(
                    f"rows.high={rows.high}: must be at most ln(vocab) = {math.log(self.vocab):.4f} nats; "
                    "lower it or enlarge vocab"
                )
            if rows.low > rows.high:
                raise ValueError(f"rows.low={rows.low}: must be at most rows.high={rows.high}")
        if isinstance(rows, SupportRows):
            if max(rows.sizes) > self.vocab:
                raise ValueError(f"rows.sizes={max(rows.sizes)}: must be at most vocab={self.vocab} successors")
            if len(set(rows.sizes)) < len(rows.sizes):
                raise ValueError(f"rows.sizes={quoted(list(rows.sizes))}: must not repeat a size")
        if isinstance(rows, TwoLevelRows):
            if rows.high > self.vocab:
                raise ValueError(f"rows.high={rows.high}: must be at most vocab={self.vocab} successors")
            if rows.low > rows.high:
                raise ValueError(f"rows.low={rows.low}: must be at most rows.high={rows.high}")
        return self

    @model_validator(mode="after")
    def _check_triggers(self) -> Self:
        triggers = self.triggers
        if isinstance(triggers, BernoulliTriggers):
            if isinstance(triggers.rate, tuple) and len(triggers.rate) != self.vocab:
                raise ValueError(
                    f"triggers.rate: has {len(triggers.rate)} entries; must have one a token ({self.vocab})"
                )
            return self
        if triggers.count > self.vocab - 4:
            raise ValueError(
                f"triggers.count={triggers.count}: must be at most vocab - 4 = {self.vocab - 4}, "
                "since targets are drawn from tokens that are no triggers"
            )
        if triggers.tokens is not None:
            bad = [t for t in triggers.tokens if not 0 <= t < self.vocab]
            if bad:
                raise ValueError(f"triggers.tokens={bad[0]}: must be between 0 and vocab - 1 = {self.vocab - 1}")
            if len(set(triggers.tokens)) != len(triggers.tokens):
                raise ValueError(f"triggers.tokens={quoted(list(triggers.tokens))}: must not repeat a token")
            if triggers.count != len(triggers.tokens):
                raise ValueError(f"triggers.count={triggers.count}: must equal the number of triggers.tokens")
        return self
