"""Laying values out so that twins, the runs of one seed in different arms, stand side by side."""

import numpy as np
import pandas as pd

from mechdistill.config import TEACHER_ARM
from mechdistill.errors import MechdistillError, did_you_mean


def students(values: pd.DataFrame) -> pd.DataFrame:
    """The rows without those of teachers' own training, which is no arm and is never compared."""
    return values[~values["arm"].astype(str).str.startswith(TEACHER_ARM)]


def require_arm(values: pd.DataFrame, arm: str) -> None:
    """Raises MechdistillError if no student run has the arm."""
    arms = set(students(values)["arm"])
    if arm not in arms:
        raise MechdistillError(f"arm '{arm}': no run to compare with; {did_you_mean(arm, arms) if arms else 'no runs'}")


def require_one_finite_value(values: pd.DataFrame, *keys: str) -> None:
    """Raises MechdistillError unless every row of `values` has a finite value and keys of its own."""
    value = values["value"].to_numpy(dtype=np.float64, na_value=np.nan)
    for wrong, rule in (
        (values.duplicated(list(keys)).to_numpy(), "must appear once; choose one step, bucket, occurrence and head"),
        (~np.isfinite(value), "must be finite; leave out what was not measured"),
    ):
        if wrong.any():
            row = values[wrong].iloc[0]
            raise MechdistillError(f"{', '.join(f'{key} {row[key]}' for key in keys)}, value {row['value']}: {rule}")


def by_seed(values: pd.DataFrame) -> pd.DataFrame:
    """Values of one metric (arm, seed, metric, value), a row a seed and a column an arm; nan where a run is absent.

    Raises MechdistillError for a value that is not finite, and for two values of one run.
    """
    require_one_finite_value(values, "metric", "arm", "seed")
    return values.pivot(index="seed", columns="arm", values="value").astype(np.float64)
