"""The table that an objective asks for: what a learner of one row a token comes to that minimises it on given data."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Table:
    """What a table of one row a token has been told, summed over positions by their current token; float64.

    Of forward KL and cross-entropy these sums are all that matters: a row q's part of the loss is
    -Σ_y (hard[y] + soft[y])·log q(y) and what does not depend on q, and smallest at q = (hard + soft) / Σ(hard + soft).

    Labels are told of all positions. What is known of a sample alone is told apart, with how many positions each
    stands for, and counts by the row: for each visit of the whole what the sample says of a visit.
    """

    def __init__(self, vocab: int):
        self.vocab = vocab
        square, row = (vocab, vocab), (vocab,)
        self._hard, self._visits = _zeros(square), _zeros(row)
        self._more, self._soft, self._asked = _zeros(square), _zeros(square), _zeros(row)

    def tell(
        self,
        rows: Int[Tensor, "batch pos"],
        labels: Int[Tensor, "batch pos"],
        weights: Float[Tensor, "batch pos"] | None,
    ) -> None:
        """Positions of the whole with the weight w of their labels; None where only a sample knows it."""
        self._visits += self._by_row(rows)
        if weights is not None:
            self._hard += self._by_pair(rows, labels, weights)

    def tell_sample(
        self,
        rows: Int[Tensor, "batch pos"],
        labels: Int[Tensor, "batch pos"],
        more: Float[Tensor, "batch pos"],
        laws: Float[Tensor, "batch pos vocab"],
        weights: Float[Tensor, "batch pos"],
        stands_for: float,
    ) -> None:
        """Positions of the sample: what their labels weigh `more`, and laws (probabilities) with their weight a."""
        self._asked += stands_for * self._by_row(rows)
        self._more += stands_for * self._by_pair(rows, labels, more)
        told = laws.flatten(0, 1).double() * weights.flatten().double()[:, None]
        self._soft.index_add_(0, rows.flatten(), told, alpha=stands_for)

    def law(self, *, smoothing: float = 0.0, pseudo_count: float = 0.0) -> Float[Tensor, "row next"]:
        """Each row's minimiser, probabilities; uniform where nothing was asked for, as in a row never seen.

        Labels are smoothed as the objective smooths them, and every label counts as `pseudo_count` times seen before,
        with the row's mean weight: at weight 1 and without a teacher it is (n(y) + λ) / (n + λ·vocab). A row that is
        seen but not in the sample has labels alone.
        """
        counts = torch.where(self._asked > 0, self._visits / self._asked, 0.0)[:, None]
        hard = self._hard + counts * self._more
        weight = hard.sum(dim=1, keepdim=True)
        each = weight / self._visits.clamp(min=1)[:, None]
        told = (1 - smoothing) * hard + smoothing * weight / self.vocab + pseudo_count * each + counts * self._soft
        total = told.sum(dim=1, keepdim=True)
        return torch.where(total > 0, told / total, 1 / self.vocab)

    def _by_row(self, rows: Int[Tensor, "batch pos"]) -> Float[Tensor, " row"]:
        return torch.bincount(rows.flatten(), minlength=self.vocab).double()

    def _by_pair(
        self, rows: Int[Tensor, "batch pos"], labels: Int[Tensor, "batch pos"], weights: Float[Tensor, "batch pos"]
    ) -> Float[Tensor, "row next"]:
        pairs = (rows * self.vocab + labels).flatten()
        sums = torch.bincount(pairs, weights.flatten().double(), minlength=self.vocab**2)
        return sums.view(self.vocab, self.vocab)


def _zeros(shape: tuple[int, ...]) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
