"""The edges of a network: what has been written, and who reads it."""

from typing import Literal, NamedTuple

from mechdistill.circuits._heads import Head
from mechdistill.model import Transformer

Input = Literal["q", "k", "v", "mlp", "logits"]


class Node(NamedTuple):
    """What writes into the residual stream: the embedding of tokens, a head, or an MLP."""

    layer: int | None = None
    """None: the embedding."""
    head: int | None = None
    """None in a layer: its MLP."""

    def __str__(self) -> str:
        if self.layer is None:
            return "embed"
        return f"MLP{self.layer}" if self.head is None else str(Head(self.layer, self.head))


class Reader(NamedTuple):
    """What reads the residual stream: queries, keys or values of a head, an MLP, or the unembedding.

    With grouped key-value heads, keys and values are those of a group, named by its first head.
    """

    input: Input
    layer: int | None = None
    head: int | None = None

    def __str__(self) -> str:
        return "logits" if self.layer is None else str(Node(self.layer, self.head))


class Edge(NamedTuple):
    """One writer and one reader of it."""

    source: Node
    reader: Reader

    def __str__(self) -> str:
        kind = "" if self.reader.input in ("mlp", "logits") else f" {self.reader.input.upper()}"
        return f"{self.source} ->{kind} {self.reader}"


Edges = list[Edge]


def edges_of(model: Transformer) -> Edges:
    """Every edge: each reader with all that is written before it. In order of readers, then of sources."""
    config = model.config
    group = config.n_heads // config.kv_heads
    written = [Node()]
    edges: Edges = []
    for layer in range(config.n_layers):
        for head in range(config.n_heads):
            inputs: tuple[Input, ...] = ("q", "k", "v") if head % group == 0 else ("q",)
            edges += [Edge(source, Reader(kind, layer, head)) for kind in inputs for source in written]
        written += [Node(layer, head) for head in range(config.n_heads)]
        if not config.attn_only:
            edges += [Edge(source, Reader("mlp", layer)) for source in written]
            written.append(Node(layer))
    return edges + [Edge(source, Reader("logits")) for source in written]
