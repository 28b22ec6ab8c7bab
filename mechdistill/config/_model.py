"""The student's part of the experiment file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mechdistill.config._base import Config, Whole


class ModelConfig(Config):
    """The student. `bigram` is the null model: an embedding-only table of logits, one row a token."""

    kind: Literal["transformer", "bigram"] = "transformer"
    n_layers: Whole = Field(default=2, ge=1, le=64)
    d_model: Whole = Field(default=128, ge=2, le=8192)
    n_heads: Whole = Field(default=4, ge=1, le=128)
    d_head: Whole | None = Field(default=None, ge=1, le=1024)
    """Width of a head; d_model / n_heads unless given."""
    attn_only: bool = True
    """No MLPs."""
    d_mlp: Whole | None = Field(default=None, ge=1, le=2**16)
    """Hidden width of the MLP; 4·d_model unless given."""
    act: Literal["gelu", "relu", "swiglu"] = "gelu"
    """Of the MLP; swiglu has a third matrix, W_gate, and its own d_mlp stays 4·d_model unless given."""
    norm: Literal["layernorm", "rmsnorm", "none"] = "layernorm"
    """Before each attention, MLP and the unembedding."""
    positions: Literal["learned", "rotary"] = "learned"
    """Learned vectors added to the embedding, or queries and keys rotated by their position (base 10000)."""
    n_kv_heads: Whole | None = Field(default=None, ge=1, le=128)
    """Key-value heads, each shared by n_heads / n_kv_heads query heads in a row; n_heads unless given."""
    tied: bool = False
    """The unembedding is the transposed embedding, one parameter."""
    biases: bool = False
    """Biases of queries, keys, values and outputs, and into and out of the MLP; never of the unembedding."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.d_head is None and self.d_model % self.n_heads:
            raise ValueError(f"n_heads={self.n_heads}: must divide d_model={self.d_model} unless d_head is given")
        if self.n_kv_heads is not None and self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_kv_heads={self.n_kv_heads}: must divide n_heads={self.n_heads}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ValueError(
                f"positions=rotary: rotates pairs, so the width of a head must be even, not {self.head_width}; "
                "set an even d_head"
            )
        if self.attn_only and self.d_mlp is not None:
            raise ValueError(f"d_mlp={self.d_mlp}: has no effect with attn_only: true; set attn_only: false")
        return self

    @property
    def has_heads(self) -> bool:
        """Whether it is a transformer: the null model has none."""
        return self.kind == "transformer"

    @property
    def head_width(self) -> int:
        """d_head, resolved."""
        return self.d_head or self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """n_kv_heads, resolved."""
        return self.n_kv_heads or self.n_heads

    @property
    def mlp_width(self) -> int:
        """d_mlp, resolved."""
        return self.d_mlp or 4 * self.d_model
