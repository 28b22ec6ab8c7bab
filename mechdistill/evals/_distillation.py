"""How good a teacher is, what an objective asks for, and which positions routing picks: on an evaluation set."""

from typing import Any

import pandas as pd
from jaxtyping import Bool, Float
from torch import Tensor

from mechdistill.evals._row_curves import row_curves
from mechdistill.evals._rows import by_bucket, by_row, finite, occurrences
from mechdistill.objective import Weights
from mechdistill.positions import EvaluationSet, Positions, masked_mean
from mechdistill.tables import FIRST, LATER, ORDINARY, ROW_CURVES, frame, metrics


def teacher_metrics(teacher: Positions) -> list[dict[str, Any]]:
    """Rows of the `metrics` table that say how good a teacher's targets are, taken as they are.

    `teacher-kl` (KL(oracle ‖ teacher), nats) and `teacher-squared-error` (Σ(t-p)², in [0, 2]) where there is no
    trigger, overall and by row-entropy bucket: 0 for the oracle, about ln(vocab) - H for one that guesses.
    `teacher-missing-mass`: the oracle's mean probability of tokens that the teacher excludes, in [0, 1]; where it is
    not 0 the KL is infinite and left out. `teacher-copy-accuracy` and `teacher-copy-mass` (its probability of the
    token that comes next) at occurrence >= 2 of triggers, in [0, 1]; chance 1/vocab for both.
    """
    data = teacher.data
    mass = (-teacher.loss).exp()
    rows: list[dict[str, Any]] = [metrics.TEACHER_MISSING.row(float(teacher.missing.mean()))]
    for metric, values in ((metrics.TEACHER_KL, teacher.kl), (metrics.TEACHER_SQUARED_ERROR, teacher.squared_error)):
        rows.append(metric.row(masked_mean(values, data.ordinary), occurrence=ORDINARY))
        rows += by_bucket(metric, values, data)
    rows += [
        metrics.TEACHER_COPY_ACCURACY.row(masked_mean(teacher.correct, data.copyable), occurrence=LATER),
        metrics.TEACHER_COPY_MASS.row(masked_mean(mass, data.copyable), occurrence=LATER),
    ]
    return finite(rows)


def objective_metrics(
    student: Positions, weights: Weights, floor: Float[Tensor, "batch pos"] | None
) -> list[dict[str, Any]]:
    """Rows of the `metrics` table that split a student's KL to the oracle, nats, by what is to blame for it.

    `floor`: KL(oracle ‖ the law at which this step's expected loss is smallest given the context); 0 for standard
    training. `learner`: the rest of KL(oracle ‖ student), which is what the student has not learned, or, negative,
    still knows better than its objective; only it is about circuits. Both where there is no trigger, overall and by
    bucket, and at occurrences 1 and 2+ of triggers; left out where the floor is not known (see
    `Objective.target`). `distillation-weight`: mean weight of the distillation term, in [0, 1].
    """
    data = student.data
    rows: list[dict[str, Any]] = [metrics.DISTILLATION_WEIGHT.row(float(weights.soft.mean()))]
    if floor is None:
        return rows
    for metric, values in ((metrics.FLOOR, floor), (metrics.LEARNER, student.kl - floor)):
        for occurrence, mask in ((ORDINARY, data.ordinary), (FIRST, data.first), (LATER, data.copyable)):
            rows.append(metric.row(masked_mean(values, mask), occurrence=occurrence))
        rows += by_bucket(metric, values, data)
    return finite(rows)


def routing_metrics(data: EvaluationSet, routed: Bool[Tensor, "batch pos"]) -> list[dict[str, Any]]:
    """Rows of the `metrics` table on which positions lost their distillation term, all in [0, 1].

    `routed-fraction` of all positions; `routing-precision`: the share of routed positions that are copyable, chance
    (a random choice) being the share of copyable positions; `routing-recall`: the share of copyable positions that
    are routed, chance being the routed fraction. Source: arXiv 2509.01649 routes to spare the copyable positions.
    """
    both = (routed & data.copyable).sum()
    return finite(
        [
            metrics.ROUTED.row(float(routed.float().mean())),
            metrics.ROUTING_PRECISION.row(float(both / routed.sum())),
            metrics.ROUTING_RECALL.row(float(both / data.copyable.sum())),
        ]
    )


def describe_targets(
    data: EvaluationSet, teacher: Positions | None, floor: Float[Tensor, "batch pos"] | None
) -> pd.DataFrame:
    """What a run is taught: `row_curves` of its teacher's targets, with the objective's `floor` beside them.

    `floor` (nats) as in `objective_metrics`, for each ordinary row and for occurrences 1, 2 and 3+ of triggers.
    Metrics that are infinite, since the teacher excludes what can happen, are left out.
    """
    table = frame(ROW_CURVES, []) if teacher is None else row_curves(teacher)
    if floor is None:
        return table
    rows = [metrics.FLOOR.row(row.means[metrics.FLOOR], **row.about) for row in by_row({metrics.FLOOR: floor}, data)]
    rows += [
        metrics.FLOOR.row(masked_mean(floor, mask), occurrence=occurrence) for occurrence, mask in occurrences(data)
    ]
    floors = frame(ROW_CURVES, finite(rows))
    return floors if table.empty else pd.concat([table, floors], ignore_index=True)
