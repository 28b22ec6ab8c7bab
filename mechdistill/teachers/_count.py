"""A count table as a teacher: what there is to know about bigrams in so many tokens, and no more."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mechdistill.config import hashed_seed
from mechdistill.config.teachers import CountTeacher
from mechdistill.teachers._protocol import Setting, Teacher
from mechdistill.world import Labels, Stream, World

_CHUNK = 2048  # sequences counted at once


class Count(Teacher):
    """n(s, y) / n(s) over the first `tokens` predictions of a stream; a row never seen is uniform.

    Triggers are counted like any token, so that it never copies: at triggers it gives the mean of what followed
    them, at chance 1/vocab. A successor never seen gets probability 0: where the oracle allows it the KL is
    infinite; over the others it is about (support - 1) / 2n(s). Its squared error is (1 - Σ pi²) / n(s).
    Source: maximum likelihood of a Markov chain, the tabular null model of the sandbox study.
    """

    entry = CountTeacher

    def __init__(self, world: World, data: Stream, tokens: int = 1_000_000):
        counts = transition_counts(world, data, tokens)
        super().__init__(counts.numpy().tobytes())
        seen = counts.sum(dim=1, keepdim=True)
        counts = torch.where(seen > 0, counts, 1).double()
        self._log_probs = (counts.log() - counts.sum(dim=1, keepdim=True).log()).float()

    @classmethod
    def from_config(cls, config: CountTeacher, setting: Setting, parts: Sequence[Teacher]) -> Teacher:
        """From the student's own stream, or from one whose seed is hashed from the name and the student's."""
        data = setting.data
        if config.data == "fresh":
            data = setting.world.training(hashed_seed(f"count:{setting.name}:{setting.seed}"))
        return cls(setting.world, data, config.tokens)

    def log_probs(self, tokens: Int[Tensor, "batch pos"], labels: Labels) -> Float[Tensor, "batch pos vocab"]:
        """log n(s, y) / n(s) of the current token's row; -inf for a successor never seen."""
        return self._log_probs[tokens]


def transition_counts(world: World, data: Stream, tokens: int) -> Int[Tensor, "row next"]:
    """How often each token followed each in the first `tokens` predictions, sequence after sequence."""
    k, length = world.vocab, world.seq_len
    counts = torch.zeros(k * k, dtype=torch.int64)
    sequences = -(-tokens // length)
    for start in range(0, sequences, _CHUNK):
        batch = data.batch(start, min(_CHUNK, sequences - start))
        pairs = (batch.tokens * k + batch.next_tokens).flatten()
        counts += torch.bincount(pairs[: tokens - start * length], minlength=k * k)
    return counts.view(k, k)
