"""Columns: what a table's cells mean, and the columns that many tables share."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

DTYPES = ("string", "Int64", "float64", "boolean")
"""pandas types that a column can have."""


class Column(NamedTuple):
    """One column: its pandas type, and what it holds."""

    name: str
    dtype: str
    doc: str


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """One table: its name and its columns, in order."""

    name: str
    columns: tuple[Column, ...]


Occurrence = Literal["0", "1", "2", "2+", "3+"]
"""Of a trigger within its sequence: 2 is the second alone, 2+ and 3+ pool all from there on. 1 is never pooled."""

ORDINARY: Final[Occurrence] = "0"  # the position holds no trigger
FIRST: Final[Occurrence] = "1"  # its target cannot be known
SECOND: Final[Occurrence] = "2"
LATER: Final[Occurrence] = "2+"  # copyable
THIRD_ON: Final[Occurrence] = "3+"

RUN_COLUMNS = (
    Column("run", "string", "path of the run inside its experiment, like spt/seed-0"),
    Column("arm", "string", "treatment; 'teacher:<name>' for a teacher's own training"),
    Column("seed", "Int64", "student seed; twins share it"),
    Column("step", "Int64", "optimiser steps taken"),
    Column("tokens", "Int64", "predictions trained on so far"),
)
METRIC = Column("metric", "string", "what is measured: the name of a `Metric`")
METRIC_COLUMNS = (METRIC, Column("value", "float64", "its value, in the metric's unit"))
BUCKET = Column("bucket", "Int64", "quartile of ordinary rows by entropy, 0 lowest; null: not by bucket")
OCCURRENCE = Column(
    "occurrence",
    "string",
    "occurrence of a trigger: 0 none, 1 first (target unknown), 2 second, 2+ and 3+ from there on; null: no meaning",
)
LAYER = Column("layer", "Int64", "layer, from 0; null for a set of heads")
HEAD = Column("head", "Int64", "head within its layer, from 0; null for a set")
ROW = Column("row", "Int64", "token whose row of the transition matrix this is; null: about no row")
ROW_ENTROPY = Column("row_entropy", "float64", "entropy of that row, nats")
TASK = Column("task", "string", "what is asked; null: of held-out sequences")
TEMPERATURE = Column("temperature", "float64", "at which the model's law is sampled; 1: as it is")
