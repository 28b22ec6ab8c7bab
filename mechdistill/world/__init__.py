"""What a world is to everything that trains or measures in it: sequences, and what each of their positions is.

A tenant (`sandbox`; later, text) gives a `World`. One that knows its own distribution is a `KnownWorld`: it has an
oracle, rows and triggers besides. Whoever needs one asks for it with `known`, and is told so where there is none.
"""

from mechdistill.world._batch import Batch, Labels, Stream
from mechdistill.world._fingerprint import differences, fingerprint
from mechdistill.world._world import (
    BIGRAM,
    COUNT,
    COUNT_BY_ROW,
    EXACT_BAYES,
    GUESSERS,
    N_BUCKETS,
    ONE_AT_A_TIME,
    TABLE,
    Copied,
    KnownWorld,
    World,
    known,
)

__all__ = [
    "BIGRAM",
    "COUNT",
    "COUNT_BY_ROW",
    "EXACT_BAYES",
    "GUESSERS",
    "N_BUCKETS",
    "ONE_AT_A_TIME",
    "TABLE",
    "Batch",
    "Copied",
    "KnownWorld",
    "Labels",
    "Stream",
    "World",
    "differences",
    "fingerprint",
    "known",
]
