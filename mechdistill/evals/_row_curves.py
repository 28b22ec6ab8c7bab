"""How well each row of the transition matrix is learned, and copying by occurrence: one checkpoint at a time."""

from typing import Any

import pandas as pd

from mechdistill.evals._rows import by_row, finite, occurrences
from mechdistill.positions import Positions, masked_mean
from mechdistill.tables import frame


def row_curves(positions: Positions) -> pd.DataFrame:
    """The `row-curves` table of one model on one evaluation set.

    For each ordinary row (occurrence 0): `kl` = mean KL(oracle ‖ model) over its positions, nats; `squared-error` =
    mean Σ(q-p)², in [0, 2]; `positions` = how many positions the means are over. Both are 0 for a perfect model; an
    untrained one is near ln(vocab) - H(row) in KL, the chance level. Rows that no position visits are left out.

    For occurrences 1, 2 and >= 3 of triggers (row null): `copy-loss` and `copy-excess` (nats) and `copy-accuracy`
    (in [0, 1], chance 1/vocab), with `no-matching-accuracy` beside them at 2 and 3.
    Sources: arXiv 2509.01649 (rows by entropy), Menon et al. 2021 (squared error).
    """
    data = positions.data
    rows: list[dict[str, Any]] = []
    for row in by_row({"kl": positions.kl, "squared-error": positions.squared_error}, data):
        rows += [{"metric": metric, "value": mean, **row.about} for metric, mean in row.means.items()]
        rows.append({"metric": "positions", "value": row.visits, **row.about})
    for number, mask in occurrences(data):
        for metric, values in (
            ("copy-loss", positions.loss),
            ("copy-excess", positions.excess),
            ("copy-accuracy", positions.correct),
            ("no-matching-accuracy", data.no_matching_hits),
        ):
            if metric == "no-matching-accuracy" and number == 1:
                continue  # nothing could be matched yet
            rows.append({"metric": metric, "value": masked_mean(values, mask), "occurrence": number})
    return frame("row-curves", finite(rows))
