"""How well each row of the transition matrix is learned, and copying by occurrence: one checkpoint at a time."""

from typing import Any

import pandas as pd

from mechdistill.evals._rows import by_row, finite, occurrences
from mechdistill.positions import Positions, masked_mean
from mechdistill.subject import Subject
from mechdistill.tables import FIRST, ROW_CURVES, frame, metrics
from mechdistill.world import EXACT_BAYES, known


def row_curves(positions: Positions) -> pd.DataFrame:
    """The `row-curves` table of one model on one evaluation set.

    For each ordinary row (occurrence 0): `kl` = mean KL(oracle ‖ model) over its positions, nats; `squared-error` =
    mean Σ(q-p)², in [0, 2]; `positions` = how many positions the means are over. Both are 0 for a perfect model; an
    untrained one is near ln(vocab) - H(row) in KL, the chance level. Rows that no position visits are left out.

    For occurrences 1, 2 and 3+ of triggers (row null): `copy-loss` and `copy-excess` (nats) and `copy-accuracy`
    (in [0, 1], chance 1/vocab), with `no-matching-accuracy` beside them at 2 and 3+, and `no-matching-exact`: 1 where
    that is the exact Bayes guess, 0 where it is the best of a few rules (`KnownWorld.no_matching_guesser`).
    Sources: arXiv 2509.01649 (rows by entropy), Menon et al. 2021 (squared error).
    """
    data = positions.data
    world = known(data.world, "row curves")
    rows: list[dict[str, Any]] = []
    for row in by_row({metrics.KL: positions.kl, metrics.SQUARED_ERROR: positions.squared_error}, data):
        rows += [metric.row(mean, **row.about) for metric, mean in row.means.items()]
        rows.append(metrics.POSITIONS.row(row.visits, **row.about))
    for occurrence, mask in occurrences(data):
        for metric, values in (
            (metrics.COPY_LOSS, positions.loss),
            (metrics.COPY_EXCESS, positions.excess),
            (metrics.COPY_ACCURACY, positions.correct),
            (metrics.NO_MATCHING, data.no_matching_hits),
        ):
            if metric is metrics.NO_MATCHING and occurrence == FIRST:
                continue  # nothing could be matched yet
            rows.append(metric.row(masked_mean(values, mask), occurrence=occurrence))
        if occurrence != FIRST and bool(mask.any()):
            rows.append(
                metrics.NO_MATCHING_EXACT.row(float(world.no_matching_guesser == EXACT_BAYES), occurrence=occurrence)
            )
    return frame(ROW_CURVES, finite(rows))


def measure_row_curves(subject: Subject) -> pd.DataFrame:
    """The `row-curves` of a subject's predictions on its held-out sequences."""
    return row_curves(subject.positions)


def with_floor(table: pd.DataFrame, subject: Subject) -> pd.DataFrame:
    """With `floor`, what the run's objective asks for at each row as measured when it started, and `learner`, the rest.

    `learner` = kl - floor of ordinary rows, nats: what the student has not learned or, negative, still knows better
    than its objective. Only of runs that are taught by more than plain labels, with an objective that stays the same
    (`describe_targets`).
    """
    if subject.targets is None:
        return table
    floor = subject.targets[subject.targets["metric"] == metrics.FLOOR.name]
    asked = floor[floor["row"].notna()].set_index("row")["value"]
    known = table[(table["metric"] == metrics.KL.name) & table["row"].isin(asked.index)]
    learner = known.assign(metric=metrics.LEARNER.name, value=known["value"] - known["row"].map(asked))
    return pd.concat([table, floor, learner], ignore_index=True)
