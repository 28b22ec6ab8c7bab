"""The zero-parameter prediction of what distilling does to each row, in squared error: the crossover, twin by twin."""

from typing import Any

import pandas as pd

from mechdistill.stats._row_gain import same_tokens
from mechdistill.tables import PREDICTED_RISK, frame, metrics


def predicted_risk(
    row_curves: pd.DataFrame, teacher: pd.DataFrame, tabular: pd.DataFrame, *, arm: str, baseline: str, alpha: float
) -> pd.DataFrame:
    """The `predicted-risk` table of one distilled arm and its undistilled twins, at all tokens that both have.

    predicted = (1 - alpha)²·r + alpha²·b for each ordinary row: r the twin's own squared error there, which stands for
    v/n since a transformer shares what it learns across rows; b = ‖teacher - row‖². Nothing is fitted. It takes the
    twin's error and the teacher's to be uncorrelated and the twin's to be noise of its labels: it foretells floors, and
    neither the time before rows are learned nor what a perfect teacher leaves (b = 0), which is too little steps.
    *Measured*, 3 seeds of a small world under a 20 %-noisy teacher, alpha .9: .04 of the error before rows are
    learned, .91 (.72 to .96 by quartile) of it at the end. Then means over positions, by entropy quartile and, with a
    null bucket, over all. Squared errors are in [0, 2].

    `row_curves` at all checkpoints; `teacher` (seed, row, value) and `tabular` (seed, tokens, row, value), what teacher
    and count table come to; a row that `tabular` lacks makes that mean null. Raises `MechdistillError` for an arm that
    is not there. Source: after Menon et al. 2021.
    """
    rows = same_tokens(row_curves, metrics.SQUARED_ERROR, arm, baseline)
    rows = rows.merge(teacher.rename(columns={"value": "teacher"}), on=["seed", "row"], validate="many_to_one")
    rows = rows.merge(tabular.rename(columns={"value": "tabular"}), on=["seed", "tokens", "row"], how="left")
    rows = rows.assign(
        measured=rows["arm"], predicted=(1 - alpha) ** 2 * rows["baseline"] + alpha**2 * rows["teacher"].astype(float)
    )
    names = ["measured", "predicted", "tabular"]
    weighted = rows.assign(**{name: rows[name] * rows["visits"] for name in names})
    found: list[pd.DataFrame] = []
    for keys in (["seed", "tokens", "bucket"], ["seed", "tokens"]):
        sums = weighted.groupby(keys)[[*names, "visits"]].agg(lambda part: part.sum(skipna=False)).reset_index()
        found.append(sums.assign(**{name: sums[name] / sums["visits"] for name in names}).drop(columns="visits"))
    whole = pd.concat(found, ignore_index=True)
    steps = row_curves.loc[row_curves["arm"] == arm, ["run", "arm", "seed", "step", "tokens"]].drop_duplicates()
    table = whole.merge(steps, on=["seed", "tokens"]).assign(baseline=baseline)
    found_rows: list[Any] = table.to_dict("records")
    return frame(PREDICTED_RISK, found_rows)
