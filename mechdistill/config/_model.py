"""The student's part of the experiment file."""

from typing import Literal, Self

from pydantic import Field, model_validator

from mechdistill.config._base import Config, Whole
from mechdistill.config._clamp import ClampConfig


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
    clamps: tuple[ClampConfig, ...] = Field(default=(), max_length=64, strict=False)
    """Heads held at an ideal pattern wherever the network is run: in training, evaluations and measures. Their queries
    and keys get no gradient, and decay. Of one arm: `model: {clamps: [{head: L0H0, pattern: two-back}]}`."""

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
        self._check_clamps()
        return self

    def _check_clamps(self) -> None:
        """Raise ValueError for a clamp of no head, and for two of one."""
        heads = [clamp.head for clamp in self.clamps]
        places = [clamp.place for clamp in self.clamps]
        for head, (layer, number) in zip(heads, places, strict=True):
            if not self.has_heads:
                raise ValueError(f"clamps: {head} has no effect with kind={self.kind}, which has no heads; drop it")
            if layer >= self.n_layers or number >= self.n_heads:
                raise ValueError(
                    f"clamps: {head} must be a head of the network, L0H0 to L{self.n_layers - 1}H{self.n_heads - 1}"
                )
            if places.count((layer, number)) > 1:
                raise ValueError(f"clamps: {head} has two; drop one of them")

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
