"""Differences between twins with their intervals: what an arm did, and how sure we are."""

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from mechdistill.plots._arms import looks
from mechdistill.plots._colours import INK
from mechdistill.plots._style import aside_of, page, styled
from mechdistill.plots._text import broken, shortened
from mechdistill.tables import OUTCOMES, Metric, metric, p_value, title

_LABEL = 18  # characters of a line of an arm's name beside the panels, of which there are two at most


def comparison_figure(table: pd.DataFrame) -> go.Figure:
    """A `compare` table as a forest plot: one panel a metric, one line an arm, its 95 % interval over seeds.

    Left of the dashed line an arm is below its baseline. Arms with fewer than three pairs are open and have no
    interval; where there is no difference at all, words stand in its place. Long names of arms are shown without their
    middle, and whole when hovering. Of formation times, hovering gives the
    threshold, the horizon and the runs that had not formed by it.
    """
    metrics = sorted(dict.fromkeys(table["metric"]), key=lambda name: not (name in OUTCOMES and OUTCOMES[name].primary))
    arms = list(dict.fromkeys(table["arm"]))[::-1]
    every = looks(table.assign(arm=table["arm"].map(_bare)))
    labels = {arm: _label(short) for arm, short in shortened(arms, 2 * _LABEL - 1).items()}
    made = page(
        [_title(name) for name in metrics],
        min(3, len(metrics)),
        40 + 34 * len(arms),
        aside=aside_of(labels.values()),
        shared_yaxes=True,
        horizontal_spacing=0.03,
    )
    figure = made.figure
    for name, at in zip(metrics, made.places, strict=True):
        rows = table[table["metric"] == name]
        ends = _range(rows)
        for row in rows.to_dict("records"):
            sure, known = pd.notna(row["low"]), pd.notna(row["difference"])
            look = every[_bare(row["arm"])]
            figure.add_scatter(
                x=[row["difference"] if known else sum(ends) / 2],
                y=[row["arm"]],
                error_x={
                    "type": "data",
                    "array": [row["high"] - row["difference"]],
                    "arrayminus": [row["difference"] - row["low"]],
                    "visible": bool(sure),
                    "thickness": 1.8,
                    "color": look.colour,
                    "width": 5,
                },
                marker={"color": look.colour, "size": 10, "symbol": look.symbol if sure else f"{look.symbol}-open"},
                mode="markers" if known else "text",
                text=[broken(str(row["note"]), made.fits)],
                textfont={"size": 11},
                name=row["arm"],
                showlegend=False,
                customdata=[_hover(row)],
                hovertemplate="%{customdata}",
                **at,
            )
        if rows["difference"].notna().any():
            figure.add_vline(x=0, line={"color": INK, "dash": "dash", "width": 1}, **at)
        else:
            figure.update_xaxes(showticklabels=False, **at)
        same = {"tickvals": [0.0]} if not (rows[["difference", "low", "high"]].fillna(0) != 0).any(axis=None) else {}
        figure.update_xaxes(nticks=5, title_text=broken(_axis(name), made.fits), range=ends, **same, **at)
    figure.update_yaxes(
        type="category",
        categoryorder="array",
        categoryarray=arms,
        tickvals=arms,
        ticktext=[labels[arm] for arm in arms],
        range=[-0.5, len(arms) - 0.5],
    )
    baselines = list(dict.fromkeys(table["baseline"]))
    return styled(made, f"Difference{f' from {baselines[0]}' * (len(baselines) == 1)}, twin by twin", _reading(table))


def _label(short: str) -> str:
    """A shortened name in two lines at most."""
    lines = broken(short, _LABEL)
    return lines if lines.count("\n") < 2 else f"{short[:_LABEL]}\n{short[_LABEL:]}"


def _title(name: str) -> str:
    """A metric in words; its unit stands at its axis."""
    words = OUTCOMES[name].title if name in OUTCOMES else title(metric(name))
    return words.removesuffix(f", {_known(name).unit}")


def _known(name: str) -> Metric:
    return OUTCOMES[name].metric if name in OUTCOMES else metric(name)


def _axis(name: str) -> str:
    """The unit, and which side is better."""
    known = _known(name)
    side = {"higher": " (better\u00a0→)", "lower": " (←\u00a0better)", "": ""}[known.better]
    return "difference" + f", {known.unit}" * bool(known.unit) + side


def _range(rows: pd.DataFrame) -> list[float]:
    """From the lowest to the highest of all that is drawn, with 0, and some room; of any width where all is 0."""
    drawn = [0.0, *rows[["difference", "low", "high"]].to_numpy(float, na_value=np.nan).ravel()]
    low, high = np.nanmin(drawn), np.nanmax(drawn)
    room = 0.08 * (high - low) or 1.0
    return [low - room, high + room]


def _reading(table: pd.DataFrame) -> str:
    """How sure the differences are."""
    text = "Left of 0 an arm is below its baseline, right of it above."
    if table["low"].notna().any():
        text += " Lines are 95 % intervals (paired t) over seeds: one that crosses 0 leaves open which is better."
    if table["low"].isna().any():
        text += " Open marks have no interval: it takes three pairs that differ."
    return text


def _bare(arm: Any) -> str:
    """An arm's name without the experiment's path, which stands before it where two experiments are compared."""
    return str(arm).rpartition(":")[2]


def _hover(row: dict[Any, Any]) -> str:
    difference = f"{row['difference']:.4g}" if pd.notna(row["difference"]) else "no difference known"
    interval = f"[{row['low']:.4g}, {row['high']:.4g}]" if pd.notna(row["low"]) else str(row["note"])
    lines = [
        f"{row['arm']} - {row['baseline']}: {difference}",
        interval,
        f"n = {row['n']}, p {p_value(row['p'])}",
    ]
    if pd.notna(row["horizon"]):
        lines += [
            f"formed from copy accuracy {row['threshold']:.3f} on, followed up to {row['horizon']} tokens",
            f"not formed by then: {row['censored']} of {row['n']}, of the baseline {row['baseline_censored']}",
        ]
    return "\n".join(lines)
