"""How well each row is known in the end, by its entropy, and where distilling stops paying: the crossover."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import Look
from mechdistill.plots._colours import INK
from mechdistill.stats import students
from mechdistill.tables import last_step

_BINS = 8
_IN_A_BIN = 3  # rows, at least


def by_entropy(figure: go.Figure, rows: pd.DataFrame, arms: dict[str, Look], place: dict[str, Any]) -> list[str]:
    """Draw KL of every row and run at the last checkpoint, and each arm's mean over rows of like entropy.

    The bins hold equally many rows. Where the means of the first two student arms (usually spt and the first that
    distils) cross, on the log scale and the line between two bins, a ring marks it. Gives the names for the legend.
    """
    last = last_step(rows)
    lines = binned(last)
    for arm, look in arms.items():
        part, mean = last[last["arm"] == arm], lines[lines["arm"] == arm]
        figure.add_trace(
            go.Scatter(
                x=part["row_entropy"],
                y=part["value"],
                mode="markers",
                marker={"color": look.colour, "symbol": look.symbol, "size": 5, "opacity": 0.35},
                text=[f"{run} @{step}, row {row}" for run, step, row in part[["run", "step", "row"]].to_numpy()],
                hovertemplate="%{text}\nentropy %{x:.2f} nats\nKL %{y:.4f} nats",
                legendgroup=arm,
                showlegend=False,
            ),
            **place,
        )
        figure.add_trace(
            go.Scatter(
                x=mean["row_entropy"],
                y=mean["value"],
                mode="lines+markers",
                line={"color": look.colour, "dash": look.dash, "width": 2.2},
                marker={"color": look.colour, "symbol": look.symbol, "size": 8},
                text=[f"{arm}, mean of {n} rows and runs" for n in mean["n"]],
                hovertemplate="%{text}\nentropy %{x:.2f} nats\nKL %{y:.4f} nats",
                legendgroup=arm,
                showlegend=False,
            ),
            **place,
        )
    names: list[str] = []
    pair = list(dict.fromkeys(students(lines)["arm"]))[:2]
    if len(pair) == 2 and (found := crossings(*(lines[lines["arm"] == arm] for arm in pair))):
        entropies = ", ".join(f"{x:.2f}" for x, _ in found)
        names.append(f"{pair[0]} and {pair[1]} cross at {entropies} nats")
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in found],
                y=[y for _, y in found],
                mode="markers",
                marker={"color": INK, "symbol": "circle-open", "size": 15, "line": {"width": 2}},
                name=names[0],
                hovertemplate="crossover at entropy %{x:.2f} nats",
            ),
            **place,
        )
    return names


def binned(last: pd.DataFrame) -> pd.DataFrame:
    """Mean KL of each arm in bins of equally many rows by entropy: arm, bin, row_entropy (mean), value, n."""
    entropy = last.drop_duplicates("row").set_index("row")["row_entropy"].sort_values(kind="stable")
    bins = max(1, min(_BINS, len(entropy) // _IN_A_BIN))
    bin_of = pd.Series(np.arange(len(entropy)) * bins // max(len(entropy), 1), index=entropy.index)
    groups = last.assign(bin=last["row"].map(bin_of)).groupby(["arm", "bin"], sort=False)
    means = groups[["row_entropy", "value"]].mean().assign(n=groups.size())
    return means.reset_index().sort_values("bin", kind="stable")


def crossings(one: pd.DataFrame, other: pd.DataFrame) -> list[tuple[float, float]]:
    """Where two lines of `binned` cross: (entropy, KL), by straight lines between log KLs."""
    both = one.merge(other, on="bin", suffixes=("", "_other"))
    x, y = both["row_entropy"].to_numpy(float), np.log(both["value"].to_numpy(float))
    apart = y - np.log(both["value_other"].to_numpy(float))
    found: list[tuple[float, float]] = []
    for i in range(len(x) - 1):
        if apart[i] * apart[i + 1] < 0:
            share = apart[i] / (apart[i] - apart[i + 1])
            at = x[i] + share * (x[i + 1] - x[i])
            found.append((float(at), float(np.exp(y[i] + share * (y[i + 1] - y[i])))))
    return found
